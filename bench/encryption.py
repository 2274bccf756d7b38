"""What encryption costs a server: checking commits, giving keys away, carrying messages to devices."""

import statistics

from bench.lab import Lab
from bench.measurements import percentile, settled
from bench.report import Figure
from bench.sizes import Sizes

GROUPS = (10, 100, 1000)
"""Devices of the rooms whose commits are measured."""

ORIGINS = 20
"""Servers that claim at the same time."""

CLAIMED_USERS = 50
"""Whose devices' keys are claimed, one at a time."""

DEVICES = 50
"""That messages are sent to at once, as a new room key is to everybody's."""

WARM_UP = 3


def measure_commits(lab: Lab, sizes: Sizes) -> list[Figure]:
    """Commits with new keys for a member, one at a time: from the request to the answer, and so with everything that a
    transaction of one message has as well."""
    figures = []
    for devices in GROUPS:
        requests = lab.inside.call(
            "bench.inside.encrypted:commits", name=lab.participants[0], devices=devices, count=WARM_UP + sizes.commits
        )
        seconds = lab.sender.call(
            "bench.sender:commits",
            hub=lab.hub.server_name,
            requests=requests,
            warm_up=WARM_UP,
            ca_file=str(lab.authority.certificate_file),
        )
        text = "Commit in a room" if devices == GROUPS[0] else " "
        figures += [
            Figure(f"commit_{devices}_p50_ms", f"{text} of {devices:,} devices, p50", percentile(seconds, 50), "ms"),
            Figure(f"commit_{devices}_p99_ms", f"  of {devices:,} devices, p99", percentile(seconds, 99), "ms"),
        ]
    return figures


def measure_claims(lab: Lab, sizes: Sizes) -> list[Figure]:
    """Servers that claim one-time keys of the same devices, one key in a request."""
    origins = [f"c{number}.localhost:{lab.port}" for number in range(ORIGINS)]
    lab.inside.call("bench.inside.hosting:publish", names=origins)
    each = -(-ORIGINS * (WARM_UP + sizes.claims) // CLAIMED_USERS)
    wanted = lab.inside.call("bench.inside.devices:publish", users=CLAIMED_USERS, keys=each)
    measured = lab.sender.call(
        "bench.sender:claim",
        hub=lab.hub.server_name,
        origins=origins,
        wanted=wanted,
        count=sizes.claims,
        warm_up=WARM_UP,
        ca_file=str(lab.authority.certificate_file),
    )
    return [
        Figure("claims_per_s", f"Claims by {ORIGINS} servers", measured["claims"] / measured["seconds"], "claims/s"),
        Figure("claim_p50_ms", "  one claim, p50", percentile(measured["latencies"], 50), "ms"),
        Figure("claim_p99_ms", "  one claim, p99", percentile(measured["latencies"], 99), "ms"),
    ]


def measure_to_device(lab: Lab, sizes: Sizes) -> list[Figure]:
    """Two complete servers: messages of a user of the hub's for devices of the other's users, until the last is in its
    inbox."""
    receiver = lab.server("receiver")
    for server in (lab.hub, receiver):
        server.start_part("worker")
        server.start_part("beat")
    there = lab.inside_of(receiver)
    there.call("bench.inside.devices:publish", users=DEVICES, keys=1)
    done = 0

    def seconds(*, devices: int, rounds: int) -> float:
        nonlocal done
        done += devices * rounds
        begun = lab.inside.call(
            "bench.inside.devices:send", server=receiver.server_name, devices=devices, rounds=rounds
        )
        end: float = there.call("bench.inside.devices:arrived", number=done)
        return end - begun

    seconds(devices=1, rounds=1)
    settled(lab)
    alone = []
    for _ in range(sizes.to_device_singles):
        alone.append(seconds(devices=1, rounds=1))
        settled(lab)
    many = sizes.to_device_rounds * DEVICES
    rate = many / seconds(devices=DEVICES, rounds=sizes.to_device_rounds)
    there.close()
    receiver.stop()
    lab.hub.stop_part("beat")
    lab.hub.stop_part("worker")
    return [
        Figure("to_device_per_s", f"Messages to {DEVICES} devices of another server", rate, "messages/s"),
        Figure("to_device_ms", "  one message, until it is in the inbox", 1000 * statistics.median(alone), "ms"),
    ]

"""What bad servers and enormous rooms cost the others: how soon servers have a room's messages, alone and beside them.

In the rooms are 49 servers that always do well, and others that keep the hub waiting while the lab spoils them: one
that says nothing, one that says a byte a second, a hundred that say nothing. A real worker delivers. Once the bad ones
are known to be bad, rounds in which nothing is sent to them take turns with rounds at whose beginning all of them are
due, as if a sweep had found them just then; each is compared with the one before it, and the median counts. Held back
they are in the room just the same, so what is compared is what trying costs.

An enormous room: so many servers that the worker has no thread for each of them catch up with a long stretch of its
line, while single messages go to the few servers of another room. Both share the processors; what is reported is how
much longer a message takes.
"""

import statistics
import time
from collections.abc import Callable, Sequence

from bench.lab import Lab
from bench.measurements import settled
from bench.report import Figure
from bench.sizes import Sizes
from linmatrix.stack.errors import StackError

BAR = 0.95
SETTLE_SECONDS = 300.0
POLL_SECONDS = 0.1
FEW = 5
"""Servers of the room beside the enormous one."""

Round = tuple[float, float]
"""Seconds until all 49 had many messages, and the median until they had one."""


def measure(lab: Lab, sizes: Sizes) -> list[Figure]:
    """One bad server among fifty, and then more than a worker has threads."""
    good, hanging, dripping = lab.named("good"), lab.named("hang"), lab.named("drip")
    lab.start_answering()
    lab.inside.call("bench.inside.hosting:publish", names=[*good, *hanging, *dripping])
    lab.hub.start_part("worker")
    lab.hub.start_part("beat")
    figures = []
    for key, text, bad in [
        ("hanging", "Beside 1 hanging server of 50", hanging[:1]),
        ("dripping", "Beside 1 that answers a byte a second", dripping[:1]),
        ("many_hanging", f"Beside {len(hanging)} hanging servers", hanging),
    ]:
        alone, beside = _compare(lab, sizes, good=good, bad=bad)
        figures += _figures(key, text, alone, beside)
    lab.hub.restart("worker")  # it is not to remember them as slow
    figures += _beside_an_enormous_room(lab, sizes, few=good[:FEW], many=[*hanging, *dripping])
    lab.hub.stop_part("beat")
    lab.hub.stop_part("worker")
    return figures


def _beside_an_enormous_room(lab: Lab, sizes: Sizes, *, few: Sequence[str], many: Sequence[str]) -> list[Figure]:
    """Single messages to few servers, alone and while many others catch up with a room of their own."""
    small, enormous = lab.new_room([*few]), lab.new_room([*many])
    settled(lab)

    def seconds() -> float:
        taken: float = lab.inside.call("bench.inside.arrivals:measure", room_id=small, servers=list(few), messages=1)
        return taken

    alone = [seconds() for _ in range(sizes.isolation_singles)]
    lab.inside.call("bench.inside.hosting:fill", room_id=enormous, events=sizes.isolation_backlog)
    beside = []
    while lab.inside.call("bench.inside.arrivals:behind", room_id=enormous):
        beside.append(seconds())
    settled(lab)
    if len(beside) < sizes.isolation_singles:
        raise StackError(f"the enormous room was done after {len(beside)} messages: give it more events")
    return [
        Figure("isolation_few_alone_ms", f"One message to {FEW} servers", 1000 * statistics.median(alone), "ms"),
        Figure(
            "isolation_few_beside_ms", f"  while {len(many)} others catch up", 1000 * statistics.median(beside), "ms"
        ),
        Figure("isolation_few_beside_worst_ms", f"  the slowest of {len(beside)}", 1000 * max(beside), "ms"),
    ]


def _compare(lab: Lab, sizes: Sizes, *, good: Sequence[str], bad: Sequence[str]) -> tuple[list[Round], list[Round]]:
    """Rounds of the same room with the bad ones held back, and with all of them tried."""
    room_id = lab.new_room([*good, *bad])

    def seconds(messages: int) -> float:
        taken: float = lab.inside.call(
            "bench.inside.arrivals:measure", room_id=room_id, servers=list(good), messages=messages
        )
        return taken

    def measure() -> Round:
        many = seconds(sizes.isolation_messages)
        return many, statistics.median(seconds(1) for _ in range(sizes.isolation_singles))

    def count(what: str) -> int:
        number: int = lab.inside.call(f"bench.inside.arrivals:{what}")
        return number

    settled(lab)
    measure()
    alone, beside = [], []
    with lab.spoiled():
        seconds(1)
        _wait(lambda: count("failing") == len(bad), "they were not found out")
        for _ in range(sizes.isolation_rounds):
            lab.inside.call("bench.inside.arrivals:hold", servers=list(bad))
            _wait(lambda: count("sending") == 0, "the last attempts did not end")
            alone.append(measure())
            lab.inside.call("bench.inside.arrivals:let_go", servers=list(bad))
            _wait(lambda: count("sending") > 0, "they were not tried again")
            beside.append(measure())
    _wait(lambda: count("forgive") == 0, "they did not recover")
    settled(lab)
    return alone, beside


def _wait(done: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + SETTLE_SECONDS
    while not done():
        if time.monotonic() > end:
            raise StackError(f"{otherwise} within {SETTLE_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)


def _figures(key: str, text: str, alone: Sequence[Round], beside: Sequence[Round]) -> list[Figure]:
    rate = statistics.median(one / two for (one, _), (two, _) in zip(alone, beside, strict=True))
    latency = statistics.median(one / two for (_, one), (_, two) in zip(alone, beside, strict=True))
    milliseconds = statistics.median(seconds for _, seconds in beside) * 1000
    return [
        Figure(f"isolation_{key}_rate_ratio", f"{text}: rate, its share", rate, "ratio", at_least=BAR),
        Figure(f"isolation_{key}_speed_ratio", "  speed of one message, its share", latency, "ratio", at_least=BAR),
        Figure(f"isolation_{key}_ms", "  one message to 49 servers", milliseconds, "ms"),
    ]

"""The fake participants at work: they prepare signed requests, and then send them while a clock runs.

Runs in a process of its own (`bench.helper`) and keeps its connections from one call to the next. Each participant
has one transaction in flight, as the draft wants it. Sending costs this process some percent of a core.
"""

import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import Any
from urllib.parse import quote

from bench.participants import UNSTABLE, Participant, SignedRequest
from linmatrix.protocol import canonical_json
from linmatrix.transport.exchange import Response
from linmatrix.transport.http import HttpClient
from linmatrix.transport.resolve import Resolver

ANSWER_SECONDS = 60.0
MAX_ANSWER_BYTES = 100_000
MAX_LARGE_ANSWER_BYTES = 100_000_000
ALL_TAKEN = canonical_json.dumps({"failed_pdus": {}})

CLAIM = "/_matrix/federation/v1/user/keys/claim"

Span = tuple[float, float]
"""When a request was sent and when its answer was complete, by the monotonic clock."""


def run(
    *, hub: str, rooms: list[str], participants: list[str], transactions: int, lpdus: int, warm_up: int, ca_file: str
) -> dict[str, Any]:
    """Send transactions of `lpdus` new messages each, from all participants at once, after `warm_up` of them each;
    `rooms` says into which room each of the participants.

    The clock stops when the first participant has no more to send: until then all were busy. Gives what was
    answered by then, and each answer's latency. RuntimeError unless every message is taken.
    """
    prepared = [
        Participant(name).transactions(room_id, hub=hub, count=warm_up + transactions, lpdus=lpdus)
        for name, room_id in zip(participants, rooms, strict=True)
    ]
    start = Barrier(len(participants))

    def send_all(requests: list[SignedRequest]) -> list[Span]:
        for request in requests[:warm_up]:
            _send(request, hub, ca_file)
        start.wait()
        return [_send(request, hub, ca_file) for request in requests[warm_up:]]

    running = [_thread(name).submit(send_all, requests) for name, requests in zip(participants, prepared, strict=True)]
    lanes = [future.result() for future in running]
    begun = min(lane[0][0] for lane in lanes)
    end = min(lane[-1][1] for lane in lanes)
    in_time = [span for lane in lanes for span in lane if span[1] <= end]
    return {
        "begun": begun,
        "seconds": end - begun,
        "events": len(in_time) * lpdus,
        "sent": sum(map(len, lanes)) * lpdus,
        "latencies": [done - sent for sent, done in in_time],
    }


def join(*, hub: str, room_id: str, participant: str, localparts: list[str], ca_file: str) -> list[dict[str, Any]]:
    """Join users of a participant one after the other; the seconds and bytes of each answer."""
    sender = Participant(participant)
    answers = []
    for localpart in localparts:
        lpdu = sender.join(room_id, hub=hub, localpart=localpart)
        target = f"{UNSTABLE}/send_join/{secrets.token_hex(8)}"
        answers.append(_timed("POST", sender.signed("POST", target, hub=hub, content=lpdu.event), hub, ca_file))
    return answers


def backfill(*, hub: str, room_id: str, participant: str, event_ids: list[str], ca_file: str) -> list[dict[str, Any]]:
    """Ask for 100 events before each of these; the seconds and bytes of each answer."""
    sender = Participant(participant)
    answers = []
    for event_id in event_ids:
        target = f"{UNSTABLE}/backfill/{quote(room_id, safe='')}?v={quote(event_id, safe='')}&limit=100"
        answers.append(_timed("GET", sender.signed("GET", target, hub=hub), hub, ca_file))
    return answers


def commits(*, hub: str, requests: list[dict[str, str]], warm_up: int, ca_file: str) -> list[float]:
    """Send ready transactions one after the other; the seconds that each takes after the first `warm_up`."""
    spans = [
        _send(SignedRequest(one["target"], one["authorization"], one["body"].encode()), hub, ca_file)
        for one in requests
    ]
    return [done - sent for sent, done in spans[warm_up:]]


def claim(
    *, hub: str, origins: list[str], wanted: list[dict[str, Any]], count: int, warm_up: int, ca_file: str
) -> dict[str, Any]:
    """Have all origins claim `count` times after `warm_up`, one claim after the other each; of `wanted` in turn, so
    that as much is claimed of each.

    The clock stops when the first has no more to claim. RuntimeError unless each claim gets one key, of its own.
    """
    start = Barrier(len(origins))

    def claim_all(name: str, lane: int) -> list[tuple[Span, str]]:
        sender, first = Participant(name), lane * (warm_up + count)
        requests = [
            sender.signed("POST", CLAIM, hub=hub, content={"one_time_keys": wanted[number % len(wanted)]})
            for number in range(first, first + warm_up + count)
        ]
        for request in requests[:warm_up]:
            _claim(request, hub, ca_file)
        start.wait()
        return [_claim(request, hub, ca_file) for request in requests[warm_up:]]

    running = [_thread(name).submit(claim_all, name, lane) for lane, name in enumerate(origins)]
    lanes = [future.result() for future in running]
    keys = [key for lane in lanes for _, key in lane]
    if len(set(keys)) < len(keys):
        raise RuntimeError("a key was given away twice")
    begun = min(lane[0][0][0] for lane in lanes)
    end = min(lane[-1][0][1] for lane in lanes)
    in_time = [span for lane in lanes for span, _ in lane if span[1] <= end]
    return {"seconds": end - begun, "claims": len(in_time), "latencies": [done - sent for sent, done in in_time]}


def _claim(request: SignedRequest, hub: str, ca_file: str) -> tuple[Span, str]:
    """When a claim was made and answered, and the key."""
    sent = time.monotonic()
    response = _exchange("POST", request, hub, ca_file, max_bytes=MAX_ANSWER_BYTES)
    done = time.monotonic()
    if response.status != 200:
        raise RuntimeError(f"the hub answered {response.status}: {response.body[:1000]!r}")
    ((devices,),) = (users.values() for users in canonical_json.loads(response.body).values())
    ((keys,),) = (devices.values(),)
    ((key,),) = (keys.values(),)
    return (sent, done), canonical_json.dumps(key).decode()


def _timed(method: str, request: SignedRequest, hub: str, ca_file: str) -> dict[str, Any]:
    sent = time.monotonic()
    response = _exchange(method, request, hub, ca_file, max_bytes=MAX_LARGE_ANSWER_BYTES)
    seconds = time.monotonic() - sent
    if response.status != 200:
        raise RuntimeError(f"the hub answered {response.status}: {response.body[:1000]!r}")
    return {"seconds": seconds, "bytes": len(response.body)}


def _send(request: SignedRequest, hub: str, ca_file: str) -> Span:
    sent = time.monotonic()
    response = _exchange("PUT", request, hub, ca_file, max_bytes=MAX_ANSWER_BYTES)
    if response.status != 200 or response.body != ALL_TAKEN:
        raise RuntimeError(f"the hub answered {response.status}: {response.body[:1000]!r}")
    return sent, time.monotonic()


def _exchange(method: str, request: SignedRequest, hub: str, ca_file: str, *, max_bytes: int) -> Response:
    content_type = {"Content-Type": "application/json"} if request.body else {}
    return _client(ca_file).request(
        hub,
        method,
        request.target,
        headers={"Authorization": request.authorization, **content_type},
        body=request.body or None,
        timeout=ANSWER_SECONDS,
        max_response_bytes=max_bytes,
    )


@cache
def _client(ca_file: str) -> HttpClient:
    return HttpClient(Resolver(allow_private=True), user_agent="linmatrix-bench", ca_file=ca_file)


@cache
def _thread(name: str) -> ThreadPoolExecutor:
    """The participant's own thread, with which its connection stays."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

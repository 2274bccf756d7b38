"""The bridge called as an ASGI server calls it, for what depends on time, memory or a connection's end."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from linmatrix.bridge import SMALL_BODY_BYTES, Bridge, Message
from linmatrix.limits import Limits
from tests.stack.echo import echo

SCOPE: dict[str, Any] = {
    "type": "http",
    "http_version": "2",
    "method": "PUT",
    "path": "/_matrix/x",
    "raw_path": b"/_matrix/x",
    "query_string": b"",
    "headers": [],
}


def part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def never() -> Message:
    return await asyncio.Future[Message]()


def call(bridge: Bridge, receive: Callable[[], Awaitable[Message]], *, scope: dict[str, Any] = SCOPE) -> list[Message]:
    """What the bridge sends."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(bridge(scope, receive, send))
    return sent


def receiving(*messages: Message) -> Callable[[], Awaitable[Message]]:
    remaining = iter(messages)

    async def receive() -> Message:
        return next(remaining)

    return receive


def test_a_body_in_parts_is_put_together() -> None:
    start, body = call(Bridge(echo, threads=1), receiving(part(b"12", more=True), part(b"345", more=False)))
    assert start["status"] == 200
    assert json.loads(body["body"])["body"] == 5


def test_a_body_that_does_not_end_in_time_is_refused() -> None:
    start, body = call(Bridge(echo, threads=1, limits=Limits(body_seconds=0.01)), never)
    assert start["status"] == 408
    assert json.loads(body["body"])["errcode"] == "M_UNKNOWN"


def test_a_body_that_breaks_off_is_refused() -> None:
    """By a client that went away, which does not hear it, or by chunks that make no sense."""
    start, body = call(Bridge(echo, threads=1), receiving(part(b"12", more=True), {"type": "http.disconnect"}))
    assert start["status"] == 400
    assert json.loads(body["body"])["errcode"] == "M_UNKNOWN"


def test_a_length_over_the_limit_is_refused_unread() -> None:
    start, _ = call(Bridge(echo, threads=1), never, scope={**SCOPE, "headers": [(b"content-length", b"99999999")]})
    assert start["status"] == 413


def test_all_bodies_together_have_a_bound_and_give_back_what_they_took() -> None:
    bridge = Bridge(echo, threads=1, limits=Limits(buffered_bytes=100))
    for _ in range(3):
        assert call(bridge, receiving(part(b"x" * 100, more=False)))[0]["status"] == 200
    start, body = call(bridge, receiving(part(b"x" * 101, more=False)))
    assert start["status"] == 503
    assert json.loads(body["body"])["errcode"] == "M_LIMIT_EXCEEDED"
    assert call(bridge, receiving(part(b"x" * 100, more=False)))[0]["status"] == 200


def test_large_bodies_that_are_sent_slowly_leave_room_for_small_ones() -> None:
    """The bound is full with them: another large one is refused, a small one is served."""
    bridge = Bridge(echo, threads=1, limits=Limits(buffered_bytes=8 * SMALL_BODY_BYTES))
    large = b"x" * (2 * SMALL_BODY_BYTES)

    async def slowly() -> Message:
        held.append(None)
        return part(large, more=True) if len(held) <= 3 else await never()

    async def discard(message: Message) -> None:
        return

    async def answer_to(body: bytes) -> int:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        await bridge(SCOPE, receiving(part(body, more=False)), send)
        return int(sent[0]["status"])

    async def scenario() -> tuple[int, int]:
        slow = asyncio.create_task(bridge(SCOPE, slowly, discard))
        while len(held) <= 3:
            await asyncio.sleep(0)
        statuses = await answer_to(large), await answer_to(b"x" * SMALL_BODY_BYTES)
        slow.cancel()
        return statuses

    held: list[None] = []
    assert asyncio.run(scenario()) == (503, 200)


def test_a_query_of_any_bytes_is_carried() -> None:
    _, body = call(Bridge(echo, threads=1), receiving(part(b"", more=False)), scope={**SCOPE, "query_string": b"\xff"})
    assert json.loads(body["body"])["RAW_URI"].encode("latin-1") == b"/_matrix/x?\xff"


def test_split_cookies_are_joined_as_cookies() -> None:
    headers = [(b"cookie", b"a=1"), (b"cookie", b"b=2")]
    _, body = call(Bridge(echo, threads=1), receiving(part(b"", more=False)), scope={**SCOPE, "headers": headers})
    assert json.loads(body["body"])["HTTP_COOKIE"] == "a=1; b=2"


def test_it_lives_and_ends_with_its_server() -> None:
    messages = receiving({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    sent = call(Bridge(echo, threads=1), messages, scope={"type": "lifespan"})
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

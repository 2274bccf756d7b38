"""What the fake participants answer to the hub's deliveries: everything is taken, at next to no cost.

An ASGI application for granian; the benchmark starts it where deliveries are part of what is measured. Servers whose
names begin with `hang` or `drip` answer as well as any, but for the time in which the file `SPOILED` exists: then the
first say nothing, and the second a byte a second.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

ANSWER = b'{"failed_pdus":{}}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]
SPOILED = Path(os.environ.get("LINMATRIX_BENCH_SPOILED", "/nonexistent"))
DRIP_SECONDS = 1.0
LOOK_SECONDS = 0.5


async def application(scope: Message, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
    """Read the request to its end, and take it."""
    while (await receive()).get("more_body", False):
        pass
    name = next((value for header, value in scope["headers"] if header == b"host"), b"")
    if name.startswith((b"hang", b"drip")) and SPOILED.exists():
        await _misbehave(send, drips=name.startswith(b"drip"))
        return
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


async def _misbehave(send: Send, *, drips: bool) -> None:
    """Keep the sender waiting until the file is gone, and give no answer that counts; it will send again."""
    if drips:
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS[:1]})
    with suppress(RuntimeError):  # the sender has gone
        waited = 0.0
        while SPOILED.exists():
            await asyncio.sleep(LOOK_SECONDS)
            waited += LOOK_SECONDS
            if drips and waited >= DRIP_SECONDS:
                waited = 0.0
                await send({"type": "http.response.body", "body": b" ", "more_body": True})
        if not drips:
            await send({"type": "http.response.start", "status": 503, "headers": HEADERS[:1]})
        await send({"type": "http.response.body", "body": b""})

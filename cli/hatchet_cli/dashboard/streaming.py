"""What is sent bit by bit for as long as somebody looks: server-sent events, each with JSON."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from aiohttp import web

from hatchet_operator.resources.base import Json
from hatchet_operator.run_logs.reader import RunLogs

_HEARTBEAT_SECONDS = 15.0


async def stream(request: web.Request, messages: AsyncIterator[bytes]) -> web.StreamResponse:
    """Send messages, with a comment now and then so that a dead connection is noticed."""
    # proxies that gather answers would keep what is live to themselves
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
    await response.prepare(request)
    upcoming = asyncio.ensure_future(anext(messages))
    try:
        while True:
            done, _ = await asyncio.wait({upcoming}, timeout=_HEARTBEAT_SECONDS)
            if not done:
                await response.write(b":\n\n")
                continue
            try:
                message = upcoming.result()
            except StopAsyncIteration:
                await response.write(b"event: end\ndata: {}\n\n")
                return response
            await response.write(b"data: " + message + b"\n\n")
            upcoming = asyncio.ensure_future(anext(messages))
    except ConnectionResetError:
        return response  # the tab was closed
    finally:
        upcoming.cancel()


async def log_messages(
    make_logs: Callable[[Callable[[str], None]], RunLogs], *, until_refused: Coroutine[Any, Any, None]
) -> AsyncIterator[bytes]:
    """Yield what a run's steps say: ``{"lines": […]}``, and ``{"problem": sentence}`` at the end.

    Args:
        make_logs: Makes what reads them, given what takes each line.
        until_refused: Returns when they may not be read any more.
    """
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    logs = make_logs(lines.put_nowait)
    following = asyncio.create_task(logs.follow(), name="log")
    refused = asyncio.create_task(until_refused, name="until logs are refused")
    for task in (following, refused):
        task.add_done_callback(lambda _: lines.put_nowait(None))
    try:
        while (line := await lines.get()) is not None:
            some = [line]
            while not lines.empty() and (more := lines.get_nowait()) is not None:
                some.append(more)
            yield _encode({"lines": some})
            if (following.done() or refused.done()) and lines.empty():
                break
        if not following.done():
            yield _encode({"problem": "You may not read the logs of pods here, or no longer."})
            return
        if (error := following.exception()) is not None:
            yield _encode({"problem": str(error)})
        for problem in filter(None, (*logs.problems, logs.silence)):
            yield _encode({"problem": problem})
    finally:
        following.cancel()
        refused.cancel()


def _encode(message: Json) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()

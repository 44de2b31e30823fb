"""Long polling: what a subscription has first, as one JSON answer, for clients that cannot stream.

A poll is a subscription like any other, so it has the same cursors, filters and gaps, and costs Redis nothing while it
waits. Invariant: it takes one block, and the cursor of the answer is what the subscription stands at then, so that the
next poll goes on behind exactly what this one has told. An answer that does not say that there may be more reaches as
far as anything was stored.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from server.web.json_answers import json_response, link, stream_link
from server.web.problems import Problem, shown

if TYPE_CHECKING:
    from server.fanout import Subscription
    from server.web.state import WebRequest

LONGEST_WAIT_SECONDS: Final = 60
_WAIT: Final = re.compile(r"[0-9]{1,2}(\.[0-9]{1,3})?")
#: Where a request begins is in its cursor from the second one on.
_PLACES: Final = frozenset({"last_event_id", "lastEventId", "from", "last", "since"})
#: Where there is no event: none of them is worth an answer before its time.
_QUIET: Final = frozenset({"position", "stalled", "heartbeat"})
#: nginx gives up an answer whose headers exceed a page of memory, and the cursor is in the body anyway.
_LONGEST_LINKS: Final = 2048
#: What a filter leaves out is read on for so long, however short the wait: some hundred thousand events. Who asks once
#: shall not have to ask a hundred times, and no answer shall be longer in coming than clients and proxies wait.
_READING_SECONDS: Final = 5.0
#: A loss that may be none is told after a lease, however short the wait: who polls often would never hear of it.
_LOOKS_AGAIN_SECONDS: Final = 0.2


class Collector:
    """An outlet that takes blocks until one has something to tell."""

    def __init__(self) -> None:
        self.frames: list[dict[str, str]] = []
        self.is_finished = False
        #: Set once there is something to answer with.
        self.is_full = asyncio.Event()

    @property
    def unsent_bytes(self) -> int:
        return 0

    def write(self, block: bytes) -> bool:
        found = _frames(block)
        self.frames += found
        if all(frame["event"] in _QUIET for frame in found):
            return True
        self.is_full.set()
        return False

    def finish(self) -> None:
        self.is_finished = True
        self.is_full.set()

    abort = finish

    @property
    def events(self) -> list[dict[str, Any]]:
        """What happened. That nobody writes at the moment, too, but once."""
        shown_frames = [frame for frame in self.frames if frame["event"] not in {"position", "heartbeat", "gap"}]
        return [{"id": frame.get("id"), "type": frame["event"], "data": frame["data"]} for frame in shown_frames]

    @property
    def gap(self) -> dict[str, Any] | None:
        """What is missing before the events; a block never tells of more than one."""
        return next((json.loads(frame["data"]) for frame in self.frames if frame["event"] == "gap"), None)


def wait_of(request: WebRequest) -> float:
    """How long the client waits. Raises `Problem`."""
    text = request.query_params.get("wait") or "0"
    if _WAIT.fullmatch(text) and float(text) <= LONGEST_WAIT_SECONDS:
        return float(text)
    raise Problem(400, f"'wait' is {shown(text)}. Use a number of seconds from 0 to {LONGEST_WAIT_SECONDS}.")


async def poll(request: WebRequest, subscription: Subscription, *, wait_seconds: float) -> Response:
    """Answer with what the subscription has first, or with nothing after the wait. Closes the subscription."""
    collector = Collector()
    try:
        is_ended = subscription.is_over
        if not is_ended and request.method != "HEAD":
            await _collect(request, subscription, collector, wait_seconds)
            is_ended = subscription.is_ended
        has_more = not is_ended and subscription.may_have_more
        cursor = subscription.cursor
    finally:
        subscription.close()
    document = {
        "events": [_with_stream(event) for event in collector.events]
        if subscription.is_composite
        else collector.events,
        "cursor": cursor,
        "gap": collector.gap,
        "more": has_more,
        "ended": is_ended,
    }
    links = "" if is_ended else _links(request, cursor)
    return json_response(document, headers={"link": links} if 0 < len(links) <= _LONGEST_LINKS else None)


async def _collect(request: WebRequest, subscription: Subscription, collector: Collector, wait_seconds: float) -> None:
    loop = asyncio.get_running_loop()
    reads_until = loop.time() + max(wait_seconds, _READING_SECONDS)
    async with asyncio.TaskGroup() as group:
        leaving = group.create_task(_until_disconnect(request), name="disconnect of a poll")
        filling = group.create_task(collector.is_full.wait(), name="poll")
        subscription.attach(collector)
        await asyncio.wait({leaving, filling}, timeout=wait_seconds, return_when=asyncio.FIRST_COMPLETED)
        while not (leaving.done() or filling.done()):
            looks, left = subscription.looks, reads_until - loop.time()
            if looks and left > 0:
                await asyncio.wait({leaving, filling, *looks}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            elif subscription.is_losing:
                again = {leaving, filling}
                await asyncio.wait(again, timeout=_LOOKS_AGAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            else:
                break
        leaving.cancel()
        filling.cancel()


async def _until_disconnect(request: WebRequest) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _links(request: WebRequest, cursor: str) -> str:
    """The next poll, and the same as an event stream, both from where this answer ends."""
    kept = [(name, value) for name, value in request.query_params.multi_items() if name not in _PLACES]
    rest = [(name, value) for name, value in kept if name != "wait"]
    path, at = request.url.path, ("last_event_id", cursor)
    return f"{link(path, [*kept, at], rel='next')}, {stream_link(path, [*rest, at], rel='alternate monitor')}"


def _with_stream(event: dict[str, Any]) -> dict[str, Any]:
    """The event of one of several streams, with the name of its own, which its id begins with."""
    own = (event["id"] or "").partition(",")[0].rpartition(":")[0]
    return {"stream": own or json.loads(event["data"]).get("stream"), **event}


def _frames(block: bytes) -> list[dict[str, str]]:
    """The frames of a block of ours, by field; comments and times to come back are none."""
    found: list[dict[str, str]] = []
    for piece in block.decode().split("\n\n"):
        fields: dict[str, str] = {}
        for line in piece.split("\n"):
            name, _, value = line.partition(": ")
            fields[name] = f"{fields[name]}\n{value}" if name in fields else value
        if "event" in fields:
            found.append(fields)
    return found

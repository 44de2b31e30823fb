"""Readers of several streams, cut off anywhere and coming back with the last id they had: each stream is complete.

Hypothesis draws what is published where, when a reader is cut, how much of what was sent has reached it, and what its
filter is. Whatever it draws, what a reader has got of each stream is what the log holds of the wanted types, once and
in order, and no id ever moves a position back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from secrets import token_hex
from typing import NamedTuple

import pytest
from httpx_sse import ServerSentEvent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.fanout import Manner
from server.fanout.framed import shown_types
from server.streams.event import LOGGED_TYPES, Draft
from server.streams.ids import ORIGIN, EventId
from server.streams.keys import Keys
from tests.support.composites import own_of, positions_in, starts
from tests.support.live_side import LiveSide, Reader, live_side
from tests.support.log_hand import Hand
from tests.support.waiting import wait_until

STREAMS = ("a", "b", "c")


class Publish(NamedTuple):
    """So many events of each type, to a stream."""

    stream: str
    types: tuple[str, ...]
    is_last: bool = False


class Restart(NamedTuple):
    """Redis restarts with its data: what is published afterwards is of another generation."""


class Cut(NamedTuple):
    """The reader's connection breaks; of what was sent since it came, only so many events have reached it."""

    kept: int


TYPES = st.sampled_from(["token", "log", "checkpoint"])
STEPS = st.lists(
    st.builds(Publish, st.sampled_from(STREAMS), st.lists(TYPES, min_size=1, max_size=40).map(tuple), st.just(False))
    | st.builds(Publish, st.sampled_from(STREAMS), st.just(("token",)), st.just(True))
    | st.builds(Cut, st.integers(0, 60))
    | st.builds(Restart),
    min_size=1,
    max_size=14,
)


class Page:
    """A reader that comes back each time with the last id of what has reached it."""

    def __init__(self, side: LiveSide, streams: Sequence[str], manner: Manner) -> None:
        self._side = side
        self._streams = streams
        self._manner = manner
        self._last_id = ""
        self._reader: Reader | None = None
        #: All that has reached it.
        self.events: list[ServerSentEvent] = []

    async def connect(self) -> None:
        self._reader = await self._side.read_all(starts(*self._streams, cursors=self._last_id), self._manner)

    async def cut(self, kept: int) -> None:
        assert self._reader
        await self._reader.leave()
        self._keep(self._reader.events[:kept])
        await self.connect()

    def _keep(self, events: Sequence[ServerSentEvent]) -> None:
        self.events += events
        self._last_id = next((event.id for event in reversed(events) if event.id), self._last_id)

    async def finish(self, ends: dict[str, EventId]) -> None:
        """Wait until it stands at the end of every stream."""

        def stands_at_the_end() -> bool:
            assert self._reader
            told = [event.id for event in self._reader.events if event.id] or [self._last_id]
            return not ends or (bool(told[-1]) and positions_in(told[-1]) == ends)

        await wait_until(stands_at_the_end, description=f"the reader stands at {ends}")
        await self.cut(10**9)

    def got(self, stream: str) -> list[EventId]:
        own = [own_of(event.id) for event in self.events if event.id and event.event != "position"]
        return [event_id for name, event_id in own if name == stream]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, wanted=st.none() | st.just(["token"]), window_bytes=st.sampled_from([500, 20_000]))
async def test_each_stream_is_complete_and_in_order_from_any_id(
    hand: Hand,
    redis_url: str,
    keys: Keys,
    steps: list[Publish | Cut | Restart],
    wanted: list[str] | None,
    window_bytes: int,
):
    run = token_hex(4)
    streams = [f"{run}.{name}" for name in STREAMS]
    manner = Manner(types=shown_types(wanted) if wanted else None)
    async with live_side(redis_url, keys, window_bytes=window_bytes, heartbeat_seconds=0.4) as side:
        page = Page(side, streams, manner)
        await page.connect()
        for number, step in enumerate(steps):
            match step:
                case Publish(name, types, is_last):
                    drafts = [Draft(each, "{}") for each in types]
                    await hand.publish(f"{run}.{name}", drafts, token=f"{number}", ends=is_last)
                case Restart():
                    await hand.client.execute_command("DEBUG", "CHANGE-REPL-ID")
                case Cut(kept):
                    await page.cut(kept)
            await asyncio.sleep(0)
        logs = {stream: await hand.log(stream) for stream in streams}
        await page.finish({stream: log[-1].id if log else ORIGIN for stream, log in logs.items()})
        shown = None if wanted is None else {*wanted, *LOGGED_TYPES}
        for stream, log in logs.items():
            assert page.got(stream) == [event.id for event in log if shown is None or event.type in shown]
        assert not [event for event in page.events if event.event == "gap"]
        _never_goes_back(page, streams)


def _never_goes_back(page: Page, streams: Sequence[str]) -> None:
    before = dict.fromkeys(streams, ORIGIN)
    for event in page.events:
        if event.id:
            now = positions_in(event.id)
            assert set(now) == set(streams)
            assert all(now[stream] >= before[stream] for stream in streams)
            before = now


@pytest.mark.parametrize("wanted", [None, ["token"]])
async def test_every_id_that_is_sent_is_one_to_come_back_with(
    hand: Hand, redis_url: str, keys: Keys, wanted: list[str] | None
):
    manner = Manner(types=shown_types(wanted) if wanted else None)
    async with live_side(redis_url, keys) as side:
        for number in range(12):
            types = ["token", "log", "log"][: 1 + number % 3]
            await hand.publish("abc"[number % 3], [Draft(each, "{}") for each in types], token=str(number))
        page = Page(side, "abc", manner)
        await page.connect()
        ends = {stream: (await hand.log(stream))[-1].id for stream in "abc"}
        await page.finish(ends)
        for place, event in enumerate(page.events):
            if event.id:
                other = Page(side, "abc", manner)
                other._keep(page.events[: place + 1])
                await other.connect()
                await other.finish(ends)
                assert {stream: other.got(stream) for stream in "abc"} == {stream: page.got(stream) for stream in "abc"}

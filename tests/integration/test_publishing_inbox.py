"""The way from threads to the loop, with the loop's turns in the test's hand."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest

from server.streams.bulk import open_bulk
from server.streams.connections import AsyncClient
from server.streams.errors import StreamClosed
from server.streams.event import Draft
from server.streams.keys import Keys
from server.streams.lane import Lane
from server.streams.shared_writer import SharedWriter
from tests.support.log_hand import LIFETIMES, Hand
from workers.publishing.inbox import Inbox


@pytest.fixture
async def writer(client: AsyncClient) -> AsyncIterator[SharedWriter]:
    lane = Lane(partial(open_bulk, client))
    found = SharedWriter(lane, Keys(), "chat", lifetimes=LIFETIMES, max_events=0, patience_seconds=20)
    yield found
    found.close()
    await lane.aclose()


async def test_events_come_out_in_the_order_in_which_they_were_put_in_with_one_call_for_all(
    writer: SharedWriter, hand: Hand
):
    turns: list[Callable[[], None]] = []
    inbox = Inbox(writer, turns.append)
    assert [inbox.put(Draft("n", str(number))) for number in range(20)] == [True] * 20
    assert len(turns) == 1
    turns.pop()()
    assert inbox.put(Draft("n", "20"))
    turns.pop()()
    await writer.flush()
    assert [event.data for event in await hand.log("chat")] == [str(number) for number in range(21)]


@pytest.mark.parametrize(("size", "fits"), [(1, 500), (100_000, 3)])
async def test_it_holds_few_events_and_few_bytes(writer: SharedWriter, size: int, fits: int):
    inbox = Inbox(writer, lambda _: None)
    taken = [inbox.put(Draft("n", "x" * size)) for _ in range(600)]
    assert taken == [True] * fits + [False] * (600 - fits)


async def test_what_the_end_of_the_stream_overtook_is_told_to_be_lost(
    writer: SharedWriter, hand: Hand, caplog: pytest.LogCaptureFixture
):
    turns: list[Callable[[], None]] = []
    inbox = Inbox(writer, turns.append)
    for number in range(3):
        assert inbox.put(Draft("n", str(number)))
    await writer.end(Draft("complete", "{}"))
    with caplog.at_level(logging.WARNING):
        turns.pop()()
    assert "3 event(s) that a thread had emitted are lost: The stream 'chat' is closed" in caplog.text
    assert not inbox.put(Draft("n", "later"))
    with pytest.raises(StreamClosed):
        inbox.check()
    with pytest.raises(StreamClosed):
        await inbox.emit(Draft("n", "later"))
    assert [event.data for event in await hand.log("chat")] == ["{}"]


async def test_the_next_event_makes_up_for_a_thread_that_was_interrupted_before_the_loop_was_asked(
    writer: SharedWriter, hand: Hand
):
    turns: list[Callable[[], None]] = []

    def soon(callback: Callable[[], None]) -> None:
        if not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        turns.append(callback)

    interrupted: list[bool] = []
    inbox = Inbox(writer, soon)
    with pytest.raises(KeyboardInterrupt):
        inbox.put(Draft("n", "0"))
    assert [inbox.put(Draft("n", str(number))) for number in (1, 2)] == [True] * 2
    assert len(turns) == 1
    turns.pop()()
    await writer.flush()
    assert [event.data for event in await hand.log("chat")] == ["0", "1", "2"]


async def test_a_thread_that_notes_late_that_it_asked_the_loop_keeps_no_later_event_from_it(
    writer: SharedWriter, hand: Hand
):
    def soon(callback: Callable[[], None]) -> None:
        callback()  # the loop is done before the thread goes on

    inbox = Inbox(writer, soon)
    for number in range(3):
        assert inbox.put(Draft("n", str(number)))
    await writer.flush()
    assert [event.data for event in await hand.log("chat")] == ["0", "1", "2"]

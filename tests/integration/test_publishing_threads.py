"""Threads that are held up, or interrupted, between leaving an event and asking the loop to fetch it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import pytest

from tests.support.log_hand import Hand
from workers import OpenStreamSync, open_stream_sync
from workers.publishing.background import Background

#: So much that the next event finds no room and has to wait for the loop.
MUCH = "x" * (262_144 - len('""'))


def flush(stream: OpenStreamSync) -> None:
    assert stream.flush() == stream.last_id


def complete(stream: OpenStreamSync) -> None:
    stream.complete()


def emit_where_there_is_no_room(stream: OpenStreamSync) -> None:
    stream.emit("much", MUCH)
    stream.emit("n", "behind much")


def leave(_: OpenStreamSync) -> None:
    """The end of the block does it."""


BEHIND: dict[Callable[[OpenStreamSync], None], list[str]] = {
    flush: [],
    complete: ["complete"],
    emit_where_there_is_no_room: ["much", "behind much"],
    leave: [],
}


class Ways:
    """The ways of threads to the loop: that of the thread called `slow` can be barred, and one can be cut."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_there = threading.Event()
        self.may_go_on = threading.Event()
        self.is_cut = False
        there = Background.soon

        def soon(background: Background, callback: Callable[[], None]) -> None:
            if self.is_cut:
                self.is_cut = False
                raise KeyboardInterrupt
            if threading.current_thread().name == "slow":
                self.is_there.set()
                assert self.may_go_on.wait(20)
            there(background, callback)

        monkeypatch.setattr(Background, "soon", soon)


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Ways:
    return Ways(monkeypatch)


async def stored(hand: Hand) -> list[str]:
    """What each event says, or its type."""
    found = [(event.type, json.loads(event.data)) for event in await hand.log("chat.42")]
    return [data if event_type == "n" else event_type for event_type, data in found]


@pytest.mark.parametrize("ask", BEHIND)
async def test_what_a_thread_asks_for_comes_behind_its_events_though_another_ones_way_to_the_loop_is_barred(
    redis_url: str, hand: Hand, ways: Ways, ask: Callable[[OpenStreamSync], None]
) -> None:
    slow = threading.Thread(name="slow", target=lambda: stream.emit("n", "a"))
    with open_stream_sync(redis_url, "chat.42") as stream:
        slow.start()
        assert ways.is_there.wait(20)
        stream.emit("n", "b1")
        stream.emit("n", "b2")
        ask(stream)
        if ask is flush:
            assert await stored(hand) == ["a", "b1", "b2"]
    ways.may_go_on.set()
    slow.join(20)
    assert await stored(hand) == ["a", "b1", "b2", *BEHIND[ask]]


@pytest.mark.parametrize("ask", BEHIND)
async def test_what_a_thread_left_that_was_interrupted_before_the_loop_was_asked_is_stored_with_its_next_call(
    redis_url: str, hand: Hand, ways: Ways, ask: Callable[[OpenStreamSync], None]
) -> None:
    with open_stream_sync(redis_url, "chat.42") as stream:
        ways.is_cut = True
        with pytest.raises(KeyboardInterrupt):
            stream.emit("much", MUCH)
        if ask is emit_where_there_is_no_room:
            stream.emit("n", "behind much")
        else:
            ask(stream)
        if ask is flush:
            assert await stored(hand) == ["much"]
    behind = BEHIND[ask]
    assert await stored(hand) == (behind if "much" in behind else ["much", *behind])

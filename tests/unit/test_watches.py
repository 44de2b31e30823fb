"""What one connection listens to, played against a server that answers whenever it likes."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

import pytest
from hiredis import PushNotification, ReplyError
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from server.streams.topology.slots import slot_of
from server.streams.watches import Watch, Watches

HOME = b"home"
CHANNELS = st.sampled_from([b"a", b"b", b"c"])


def ignore(_: bytes) -> None: ...


class Played:
    """The subscriptions of one connection, as Redis keeps them: it reads in order and answers in order."""

    def __init__(self) -> None:
        self.unread: deque[tuple[bytes, bytes]] = deque()
        self.answers: deque[Any] = deque()
        self.subscribed: set[bytes] = set()
        self.forbidden: set[bytes] = set()

    def read(self) -> None:
        command, channel = self.unread.popleft()
        if command == b"SSUBSCRIBE" and channel in self.forbidden:
            self.answers.append(ReplyError("NOPERM no such channel for you"))
            return
        (self.subscribed.add if command == b"SSUBSCRIBE" else self.subscribed.discard)(channel)
        self.answers.append(PushNotification([command.lower(), channel, len(self.subscribed)]))


class Listening(RuleBasedStateMachine):
    """Wanting and leaving in any order, while commands and answers are under way."""

    def __init__(self) -> None:
        super().__init__()
        self.watches = Watches(HOME)
        self.watches.begin()
        self.server = Played()
        self.wanted: dict[bytes, Watch] = {}
        self.settled: list[Watch] = []

    @rule(channel=CHANNELS)
    def want(self, channel: bytes) -> None:
        watch = self.watches.want(channel, ignore)
        assert self.wanted.setdefault(channel, watch) is watch
        if not watch.is_confirmed:
            watch.on_settled.append(lambda: self.settled.append(watch))

    @rule(channel=CHANNELS)
    def leave(self, channel: bytes) -> None:
        self.watches.leave(channel)
        watch = self.wanted.pop(channel, None)
        assert watch is None or watch.on_settled == []

    @rule(limit=st.integers(1, 3))
    def take(self, limit: int) -> None:
        self.server.unread.extend(self.watches.take(limit))

    @rule(channel=CHANNELS)
    def forbid(self, channel: bytes) -> None:
        self.server.forbidden ^= {channel}

    @rule()
    def prove(self) -> None:
        self.watches.prove()

    @rule()
    def read(self) -> None:
        if self.server.unread:
            self.server.read()

    @rule()
    def answer(self) -> None:
        if self.server.answers:
            self.watches.answer(self.server.answers.popleft())

    @rule()
    def lose_the_connection(self) -> None:
        self.watches.end()
        assert all(watch.on_settled == [] and not watch.is_confirmed for watch in self.wanted.values())
        self.server = Played()
        self.watches.begin()

    @rule()
    def come_to_rest(self) -> None:
        self.server.forbidden.clear()
        self.watches.prove()
        answers: list[bool] = []
        while self.watches.is_due or self.server.unread or self.server.answers:
            self.take(100)
            while self.server.unread:
                self.server.read()
            answers += [self.watches.answer(each) for each in self.server.answers]
            self.server.answers.clear()
            if self.watches.has_refused:
                self.watches.prove()
        assert self.server.subscribed == {HOME, *self.wanted}
        assert answers[-1]
        assert all(watch.is_confirmed and watch.on_settled == [] for watch in self.wanted.values())

    @invariant()
    def what_is_confirmed_is_subscribed(self) -> None:
        for channel, watch in self.wanted.items():
            assert not watch.is_confirmed or channel in self.server.subscribed

    @invariant()
    def whoever_waits_is_waited_for(self) -> None:
        """A watch with somebody waiting has a command due or an answer to come."""
        for channel, watch in self.wanted.items():
            if watch.on_settled:
                assert channel in self.watches._due or (channel, watch) in self.watches._line

    @invariant()
    def the_count_is_right(self) -> None:
        assert len(self.watches) == len(self.wanted)


TestListening = Listening.TestCase
TestListening.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def begun(*channels: bytes) -> tuple[Watches, Played]:
    watches, server = Watches(HOME), Played()
    watches.begin()
    for channel in channels:
        watches.want(channel, ignore)
    return watches, server


def exchange(watches: Watches, server: Played) -> list[tuple[bytes, bytes]]:
    """Send what is due and take the answers; returns the commands."""
    commands = watches.take(100)
    server.unread.extend(commands)
    for _ in commands:
        server.read()
        watches.answer(server.answers.popleft())
    return commands


def test_what_comes_and_goes_in_one_turn_costs_no_command():
    watches, server = begun()
    exchange(watches, server)
    watches.want(b"a", ignore)
    watches.leave(b"a")
    assert watches.take(100) == []


def test_what_goes_and_comes_in_one_turn_costs_one_command():
    watches, server = begun(b"a")
    exchange(watches, server)
    watches.leave(b"a")
    watches.want(b"a", ignore)
    assert exchange(watches, server) == [(b"SSUBSCRIBE", b"a")]


def test_a_channel_wanted_twice_costs_one_command():
    watches, server = begun(b"a", b"a")
    assert exchange(watches, server) == [(b"SSUBSCRIBE", HOME), (b"SSUBSCRIBE", b"a")]
    watches.want(b"a", ignore)
    assert watches.take(100) == []


def test_a_new_connection_asks_for_everything_and_for_home_last():
    watches, server = begun(b"a", b"b")
    exchange(watches, server)
    watches.begin()
    assert watches.take(2) == [(b"SSUBSCRIBE", b"a"), (b"SSUBSCRIBE", b"b")]
    assert watches.take(2) == [(b"SSUBSCRIBE", HOME)]


def test_an_old_confirmation_does_not_confirm_a_newer_watch():
    watches, server = begun()
    exchange(watches, server)
    for step in (lambda: watches.want(b"a", ignore), lambda: watches.leave(b"a"), lambda: watches.want(b"a", ignore)):
        step()
        server.unread.extend(watches.take(100))
    newest = watches.want(b"a", ignore)
    while server.unread:
        server.read()
    confirmed: list[bool] = []
    for answer in server.answers:
        watches.answer(answer)
        confirmed.append(newest.is_confirmed)
    assert confirmed == [False, False, True]


def test_a_listener_that_fails_is_logged_and_the_next_ring_comes(caplog: pytest.LogCaptureFixture):
    heard: list[bytes] = []

    def listen(payload: bytes) -> None:
        if payload == b"1":
            raise ValueError("bad ring")
        heard.append(payload)

    watches, _ = begun()
    watches.want(b"a", listen)
    watches.ring(b"a", b"1")
    watches.ring(b"a", b"2")
    assert heard == [b"2"]
    assert "bad ring" in caplog.text


def test_refusals_are_told_once_and_leave_the_others_alone(caplog: pytest.LogCaptureFixture):
    watches, server = begun(b"a", b"b", b"c")
    server.forbidden = {b"a", b"b"}
    exchange(watches, server)
    for _ in range(3):
        watches.prove()
        exchange(watches, server)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "Redis refuses to tell of new events on 'a', which come late: NOPERM no such channel for you"
    ]
    assert server.subscribed == {HOME, b"c"}
    watches.leave(b"a")
    watches.leave(b"b")
    assert not watches.has_refused


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ([b"ssubscribe", b"b", 1], "subscribed 'b', which was not asked for"),
        ([b"sunsubscribe", b"a", 0], "ended the subscription of 'a' by itself"),
        (b"OK", "was not asked for: b'OK'"),
        (ReplyError("NOPERM home"), r"refused 'home': NOPERM"),
    ],
)
def test_an_answer_that_fits_nothing_ends_the_connection(reply: Any, reason: str):
    watches, _ = begun()
    watches.take(100)
    with pytest.raises(OSError, match=reason):
        watches.answer(reply)


@pytest.mark.parametrize("reply", [[b"ssubscribe", b"a", 1], [b"sunsubscribe", b"a", 0], ReplyError("ERR odd")])
def test_an_answer_when_nothing_was_asked_ends_the_connection(reply: Any):
    watches, server = begun(b"a")
    exchange(watches, server)
    with pytest.raises(OSError, match=r"not asked for|by itself"):
        watches.answer(reply)


def test_a_push_of_another_kind_is_passed_over():
    watches, server = begun()
    assert watches.answer([b"MOVING", 1, 30]) is False
    exchange(watches, server)
    assert server.subscribed == {HOME}


# In a Cluster.


def in_cluster() -> tuple[Watches, list[bytes]]:
    moved: list[bytes] = []
    watches = Watches(HOME, on_moved=moved.append)
    watches.want(b"a", lambda _: None)
    watches.begin()
    for command in watches.take(100):
        watches.answer([b"ssubscribe", command[1], 1])
    return watches, moved


def test_a_subscription_that_its_node_ends_is_told_and_the_connection_goes_on():
    watches, moved = in_cluster()
    assert watches.answer([b"sunsubscribe", b"a", 1]) is False
    assert moved == [b"a"]
    watches.leave(b"a")
    assert watches.take(100) == []  # there is nothing to be left at this node


def test_a_subscription_that_is_refused_as_moved_is_told():
    watches, moved = in_cluster()
    settled: list[str] = []
    watches.want(b"b", lambda _: None).on_settled.append(lambda: settled.append("b"))
    watches.take(100)
    watches.answer(ReplyError(f"MOVED {slot_of(b'b')} 10.0.0.1:7000"))
    assert (moved, settled, watches.has_refused) == ([b"b"], ["b"], False)


def test_a_refusal_for_another_slot_than_was_asked_ends_the_connection():
    watches, _ = in_cluster()
    watches.want(b"b", lambda _: None)
    watches.take(100)
    with pytest.raises(OSError, match="was not asked for: MOVED 1 "):
        watches.answer(ReplyError("MOVED 1 10.0.0.1:7000"))


def test_a_home_that_moves_ends_the_connection_and_the_next_one_has_another():
    watches, moved = in_cluster()
    with pytest.raises(OSError, match="by itself"):
        watches.answer([b"sunsubscribe", HOME, 1])
    watches.begin(b"elsewhere")
    assert [channel for _, channel in watches.take(100)] == [b"a", b"elsewhere"]
    assert moved == []

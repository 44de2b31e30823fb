"""The lane: what goes into a round trip, when it begins, and whom a failure hits. In virtual time, without Redis."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from server.streams.bulk import Command, Done, ScriptMissing
from server.streams.calls import Call, Script
from server.streams.durability import WAIT_MS, Durability
from server.streams.errors import LogRefused, LogUnavailable
from server.streams.lane import PACE_SECONDS, Lane, Way
from tests.model.clock import VirtualLoop, settle

SCRIPT = Script("return 1", "sha-of-it")


class Wire:
    """A lane's connection whose replies the test gives."""

    def __init__(self) -> None:
        self.is_lost = False
        self.is_closed = False
        #: First words and payload of the commands of each trip, and when it began.
        self.trips: list[list[tuple[str, str]]] = []
        self.began_at: list[float] = []
        self._added: list[tuple[str, str]] = []
        self._done: Done | None = None

    def add(self, command: Command) -> int:
        self._added.append((str(command[0]), str(command[-1])))
        return len(str(command[-1]))

    def go(self, done: Done) -> None:
        assert self._done is None, "two trips at once"
        self.trips.append(self._added)
        self.began_at.append(asyncio.get_running_loop().time())
        self._added, self._done = [], done

    async def aclose(self) -> None:
        self.is_closed = True

    def reply(self, *replies: Any) -> None:
        """Answer the trip under way: with these, or with "ok" to everything."""
        done, self._done = self._done, None
        assert done, "nothing is under way"
        done(list(replies) or ["ok"] * len(self.trips[-1]))

    def oks(self) -> list[Any]:
        """ "ok" to everything, and to a wait what says that one replica has it, or one disk."""
        return [{"WAIT": 1, "WAITAOF": [1, 0]}.get(command, "ok") for command, _ in self.trips[-1]]

    def lose(self) -> None:
        self.is_lost = True
        self.reply(*[LogUnavailable("lost")] * len(self.trips[-1]))


class Writer:
    """Has one word to send for each time it is enlisted."""

    def __init__(self, word: str, *, parse: Callable[[Any], Any] = str) -> None:
        self.word: str | None = word
        self.parse = parse
        self.happened: list[object] = []

    def next_call(self) -> Call[Any] | None:
        return None if self.word is None else Call(SCRIPT, (), (self.word,), self.parse)

    def heard(self, answer: Any) -> None:
        self.happened.append(answer)

    def failed(self, error: LogUnavailable) -> None:
        self.happened.append(("failed", str(error)))

    def broke(self, error: Exception) -> None:
        self.happened.append(error)


class Bench:
    """A lane, its wires, and time."""

    def __init__(self, delay_seconds: float = 0.0, durability: Durability = Durability.FAST) -> None:
        self.wires: list[Wire] = []
        self.refusals = 0
        self.lane = Lane(self._dial, delay_seconds=delay_seconds, durability=durability)

    @property
    def wire(self) -> Wire:
        return self.wires[-1]

    async def _dial(self) -> Wire:
        if self.refusals:
            self.refusals -= 1
            raise LogUnavailable("nobody there")
        self.wires.append(Wire())
        return self.wires[-1]

    def enlist(self, *words: str, hurry: bool = False) -> list[Writer]:
        writers = [Writer(word) for word in words]
        for writer in writers:
            self.lane.enlist(writer, hurry=hurry)
        return writers

    async def connected(self) -> None:
        """Have a trip made, so that the lane is connected, and idle for as long as it takes."""
        self.enlist("hello", hurry=True)
        await settle()
        self.wire.reply(*self.wire.oks())
        await asyncio.sleep(1)
        self.wire.trips.clear()
        self.wire.began_at.clear()

    @property
    def words(self) -> list[list[str]]:
        return [[word for _, word in trip] for trip in self.wire.trips]


def in_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test())

    run.__name__ = test.__name__
    return run


def now() -> float:
    return asyncio.get_running_loop().time()


@in_virtual_time
async def test_an_idle_lane_sends_at_once_whatever_one_turn_of_the_loop_brings():
    bench = Bench()
    await bench.connected()
    began = now()
    first = bench.enlist("a", "b", "c")
    await settle()
    assert bench.words == [["a", "b", "c"]]
    assert bench.wire.began_at[0] - began < PACE_SECONDS / 100
    bench.wire.reply("1", "2", "3")
    assert [writer.happened for writer in first] == [["1"], ["2"], ["3"]]


@in_virtual_time
async def test_what_comes_while_a_trip_is_under_way_goes_together_in_the_next_one():
    bench = Bench()
    await bench.connected()
    bench.enlist("a")
    await settle()
    for word in "bcd":
        bench.enlist(word)
        await asyncio.sleep(0.1)
    assert bench.words == [["a"]]
    bench.wire.reply()
    await settle()
    assert bench.words == [["a"], ["b", "c", "d"]]


@in_virtual_time
async def test_a_busy_lane_keeps_its_pace_unless_somebody_waits_for_it():
    bench = Bench()
    await bench.connected()
    for word in "abc":
        bench.enlist(word)
        await settle()
        await asyncio.sleep(PACE_SECONDS)
        bench.wire.reply()
    bench.enlist("d")
    await settle()
    bench.wire.reply()
    bench.enlist("e", hurry=True)
    await settle()
    assert bench.words == [["a"], ["b"], ["c"], ["d"], ["e"]]
    steps = [later - earlier for earlier, later in zip(bench.wire.began_at, bench.wire.began_at[1:], strict=False)]
    assert [step >= PACE_SECONDS for step in steps] == [True, True, True, False]


@in_virtual_time
async def test_with_a_delay_events_wait_for_others_and_never_longer():
    bench = Bench(delay_seconds=0.5)
    await bench.connected()
    began = now()
    for word in "abcd":
        bench.enlist(word)
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.2)
    assert bench.words == [["a", "b", "c", "d"]]
    assert bench.wire.began_at[0] - began == pytest.approx(0.5)


@in_virtual_time
async def test_the_time_that_a_trip_takes_counts_as_waiting():
    bench = Bench(delay_seconds=0.5)
    await bench.connected()
    bench.enlist("a", hurry=True)
    await settle()
    bench.enlist("b")
    await asyncio.sleep(2)
    bench.wire.reply()
    await settle()
    assert bench.words == [["a"], ["b"]]


@pytest.mark.parametrize("how", ["enlist", "hurry"])
def test_whoever_waits_for_his_events_hurries_everybody(how: str):
    @in_virtual_time
    async def play() -> None:
        bench = Bench(delay_seconds=1000)
        await bench.connected()
        bench.enlist("a", "b")
        await settle()
        assert bench.words == []
        if how == "enlist":
            bench.enlist("c", hurry=True)
        else:
            bench.lane.hurry()
        await settle()
        assert bench.words == [["a", "b", "c"][: 3 if how == "enlist" else 2]]

    play()


@in_virtual_time
async def test_a_hurry_while_a_trip_is_under_way_is_for_the_next_one():
    bench = Bench(delay_seconds=1000)
    await bench.connected()
    bench.enlist("a", hurry=True)
    await settle()
    bench.enlist("b")
    bench.lane.hurry()
    bench.wire.reply()
    await settle()
    bench.wire.reply()
    bench.enlist("c")
    await settle()
    assert bench.words == [["a"], ["b"]]


@in_virtual_time
async def test_a_trip_is_bounded_in_bytes_and_takes_writers_in_their_order():
    bench = Bench()
    await bench.connected()
    large = ["x" * 200_000, "y" * 200_000, "z" * 200_000]
    bench.enlist(*large, "small")
    for _ in range(2):
        await asyncio.sleep(PACE_SECONDS)
        bench.wire.reply()
    assert bench.words == [large[:2], [large[2], "small"]]


@in_virtual_time
async def test_a_writer_that_has_nothing_to_send_any_more_makes_no_trip():
    bench = Bench()
    await bench.connected()
    (writer,) = bench.enlist("a")
    writer.word = None
    await asyncio.sleep(1)
    assert bench.words == []


# More than the master's memory.

SAFE = [(Durability.REPLICATED, "WAIT", 1, 0), (Durability.FSYNC, "WAITAOF", [1, 0], [0, 0])]


@pytest.mark.parametrize(("durability", "command", "enough", "too_few"), SAFE, ids=["replicated", "fsync"])
def test_a_trip_ends_with_a_wait_that_is_made_again_until_it_is_reached(
    durability: Durability, command: str, enough: object, too_few: object
):
    @in_virtual_time
    async def play() -> None:
        bench = Bench(durability=durability)
        await bench.connected()
        first, second = bench.enlist("a", "b")
        await settle()
        wait = (command, str(WAIT_MS))
        assert bench.wire.trips == [[("EVALSHA", "a"), ("EVALSHA", "b"), wait]]
        bench.wire.reply("1", "2", too_few)
        (later,) = bench.enlist("c", hurry=True)
        await asyncio.sleep(1)
        assert (first.happened, bench.wire.trips[1:]) == ([], [[wait]])
        bench.wire.reply(too_few)
        await settle()
        bench.wire.reply(enough)
        await settle()
        assert (first.happened, second.happened, later.happened) == (["1"], ["2"], [])
        assert bench.wire.trips[2:] == [[wait], [("EVALSHA", "c"), wait]]

    play()


@in_virtual_time
async def test_a_connection_that_breaks_before_the_wait_is_answered_makes_everything_unknown():
    bench = Bench(durability=Durability.REPLICATED)
    await bench.connected()
    (writer,) = bench.enlist("a")
    await settle()
    bench.wire.is_lost = True
    bench.wire.reply("stored", LogUnavailable("lost"))
    assert writer.happened == [("failed", "Whether it is safe is unknown. lost")]


@in_virtual_time
async def test_a_server_that_cannot_wait_is_left_for_another_connection():
    bench = Bench(durability=Durability.REPLICATED)
    await bench.connected()
    (writer,) = bench.enlist("a")
    await settle()
    bench.wire.reply("stored", LogUnavailable("it is a replica now"))
    assert writer.happened == [("failed", "Whether it is safe is unknown. it is a replica now")]
    bench.enlist("b")
    await asyncio.sleep(1)
    assert [wire.is_closed for wire in bench.wires] == [True, False]


@in_virtual_time
async def test_nothing_is_waited_for_where_nothing_was_written():
    bench = Bench(durability=Durability.REPLICATED)
    await bench.connected()
    (writer,) = bench.enlist("a")
    await settle()
    bench.wire.reply(LogUnavailable("OOM"), 0)
    assert writer.happened == [("failed", "OOM")]


@in_virtual_time
async def test_whose_call_was_refused_does_not_wait_until_that_of_others_is_safe():
    bench = Bench(durability=Durability.REPLICATED)
    await bench.connected()
    stored, refused = bench.enlist("a", "b")
    await settle()
    bench.wire.reply("1", LogRefused("WRONGTYPE"), 0)
    assert (stored.happened, refused.happened) == ([], [("failed", "WRONGTYPE")])
    await settle()
    bench.wire.reply(1)
    assert (stored.happened, refused.happened) == (["1"], [("failed", "WRONGTYPE")])


@in_virtual_time
async def test_a_call_that_another_node_refused_and_this_one_too_waits_for_nothing():
    bench = Bench(durability=Durability.REPLICATED)
    await bench.connected()
    writer = Writer("a")
    call = writer.next_call()
    assert call
    bench.lane.ask(writer, call, Way.ASKING)
    await settle()
    bench.wire.reply("OK", LogUnavailable("TRYAGAIN"), 0)
    assert writer.happened == [("failed", "TRYAGAIN")]


# Failures.


@in_virtual_time
async def test_a_redis_that_refuses_everybody_is_said_once_for_each_reason_and_so_is_its_recovery():
    bench = Bench()
    await bench.connected()
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.getLogger("server.streams.lane")
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.INFO)
    for number, code in enumerate(["OOM", "OOM", "NOREPLICAS", "OOM", "NOREPLICAS"]):
        bench.enlist(f"{number}", f"{number}{number}")
        await asyncio.sleep(1)
        bench.wire.reply(LogUnavailable(code, code=code), LogUnavailable(code, code=code))
    assert bench.lane.trouble == "NOREPLICAS"
    for word in "de":
        bench.enlist(word, "mistaken")
        await asyncio.sleep(1)
        bench.wire.reply("ok", LogRefused("WRONGTYPE"))
    logger.removeHandler(handler)
    logger.setLevel(before)
    assert said == [
        "Appends wait: OOM",
        "Appends still wait, for another reason: NOREPLICAS",
        "Appends go on",
    ]
    assert bench.lane.trouble == ""


@in_virtual_time
async def test_a_refusal_is_heard_by_its_own_writer_only():
    bench = Bench()
    await bench.connected()
    good, bad = bench.enlist("good", "bad")
    await settle()
    bench.wire.reply("stored", LogUnavailable("Redis refused: WRONGTYPE"))
    assert (good.happened, bad.happened) == (["stored"], [("failed", "Redis refused: WRONGTYPE")])


@in_virtual_time
async def test_a_lost_connection_is_unknown_to_who_was_under_way_and_a_wait_to_the_others():
    bench = Bench()
    await bench.connected()
    sent = bench.enlist("a", "b")
    await settle()
    (waiting,) = bench.enlist("c")
    lost = bench.wire
    lost.lose()
    await asyncio.sleep(1)
    assert [writer.happened for writer in sent] == [[("failed", "lost")]] * 2
    assert (len(bench.wires), bench.words, lost.is_closed) == (2, [["c"]], True)
    bench.wire.reply("stored")
    assert waiting.happened == ["stored"]


@in_virtual_time
async def test_replies_that_came_before_the_connection_was_lost_are_believed():
    bench = Bench()
    await bench.connected()
    first, second = bench.enlist("a", "b")
    await settle()
    bench.wire.is_lost = True
    bench.wire.reply("stored", LogUnavailable("lost"))
    assert (first.happened, second.happened) == (["stored"], [("failed", "lost")])


@in_virtual_time
async def test_a_lane_dials_until_somebody_answers_and_nobody_hears_of_it():
    bench = Bench()
    bench.refusals = 20
    (writer,) = bench.enlist("a")
    await asyncio.sleep(60)
    assert (bench.refusals, bench.words, writer.happened) == (0, [["a"]], [])


@in_virtual_time
async def test_a_connection_that_was_lost_while_idle_costs_nobody_anything():
    bench = Bench()
    await bench.connected()
    bench.wire.is_lost = True
    (writer,) = bench.enlist("a")
    await settle()
    bench.wire.reply("stored")
    assert (len(bench.wires), writer.happened) == (2, ["stored"])


@in_virtual_time
async def test_a_script_that_redis_does_not_know_is_sent_whole_once_for_all():
    bench = Bench()
    await bench.connected()
    writers = bench.enlist("a", "b", "c")
    await settle()
    bench.wire.reply(*[ScriptMissing("NOSCRIPT")] * 3)
    await settle()
    bench.wire.reply("1", "2", "3")
    assert bench.wire.trips[1] == [("EVAL", "a"), ("EVALSHA", "b"), ("EVALSHA", "c")]
    assert [writer.happened for writer in writers] == [["1"], ["2"], ["3"]]


@in_virtual_time
async def test_a_script_that_was_to_be_sent_whole_when_the_connection_broke_fails_its_writer():
    bench = Bench()
    await bench.connected()
    (writer,) = bench.enlist("a")
    await settle()
    bench.wire.reply(ScriptMissing("NOSCRIPT"))
    bench.wire.is_lost = True
    await asyncio.sleep(1)
    assert [kind for kind, _ in writer.happened] == ["failed"]  # type: ignore[misc]


@pytest.mark.parametrize("where", ["next_call", "parse"])
def test_a_writer_that_breaks_does_not_hurt_the_others(where: str):
    @in_virtual_time
    async def play() -> None:
        bench = Bench()
        await bench.connected()
        fault = KeyError("broken")

        def fail(*_: Any) -> Any:
            raise fault

        broken = Writer("broken")
        setattr(broken, where, fail)
        bench.lane.enlist(broken)
        (good,) = bench.enlist("good")
        await settle()
        bench.wire.reply()
        assert (broken.happened, good.happened) == ([fault], ["ok"])

    play()


@in_virtual_time
async def test_a_dial_that_breaks_is_told_to_everybody_and_tried_again_for_the_next():
    faults: list[Exception] = [KeyError("broken")]
    wire = Wire()

    async def dial() -> Wire:
        if faults:
            raise faults[0]
        return wire

    lane = Lane(dial)
    first, second = Writer("a"), Writer("b")
    lane.enlist(first)
    await settle()
    assert first.happened == faults
    faults.clear()
    lane.enlist(second)
    await asyncio.sleep(1)
    assert wire.trips == [[("EVALSHA", "b")]]


@in_virtual_time
async def test_a_call_that_was_sent_on_to_a_node_that_is_gone_is_given_back_and_not_kept():
    dialled: list[None] = []

    async def dial() -> Wire:
        dialled.append(None)
        raise LogUnavailable("gone")

    lane = Lane(dial)
    writer = Writer("a")
    lane.ask(writer, Call(SCRIPT, (), ("a",), str), Way.MOVED)
    await asyncio.sleep(10)
    assert writer.happened == [("failed", "gone")]
    assert len(dialled) == 1  # nobody waits any more
    await lane.aclose()


@pytest.mark.parametrize("state", ["idle", "planned", "dialling", "under way"])
def test_a_closed_lane_sends_nothing_more_and_leaves_nothing_behind(state: str):
    @in_virtual_time
    async def play() -> None:
        bench = Bench()
        if state == "dialling":
            bench.refusals = 1000
        else:
            await bench.connected()
        if state != "idle":
            bench.enlist("a")
        if state in {"dialling", "under way"}:
            await settle()
        await bench.lane.aclose()
        bench.enlist("b", hurry=True)
        await asyncio.sleep(10)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert [wire.is_closed for wire in bench.wires] == ([] if state == "dialling" else [True])
        assert [words for wire in bench.wires for words in wire.trips] == (
            [[("EVALSHA", "a")]] if state == "under way" else []
        )

    play()


@in_virtual_time
async def test_a_lane_ends_although_its_dialling_forgets_that_it_was_cancelled():
    async def dial() -> Wire:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise LogUnavailable("connection reset") from None
        raise AssertionError

    lane = Lane(dial)
    lane.enlist(Writer("a"))
    await settle()
    await asyncio.wait_for(lane.aclose(), 0.01)  # without the pause before another dialling
    assert asyncio.all_tasks() == {asyncio.current_task()}

"""`stalled`: readers learn that a task's worker is missed, from any replica, and are told nothing that is not so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from server.fanout import Start
from server.fanout.life import Life, LifeWatch, Silence
from server.streams.connections import AsyncClient, execute
from server.streams.errors import LogUnavailable
from server.streams.keys import Keys
from server.streams.log import Log
from server.streams.records import Status, rfc3339
from server.streams.sign import Pause, Sign
from tests.support.live_side import Reader, live_side
from tests.support.log_hand import LIFETIMES, Hand, drafts
from tests.support.waiting import wait_until

STREAM = "tasks.a"


@pytest.mark.parametrize("start", [Start(), Start(all_attempts=True), Start(at="latest")])
async def test_readers_of_any_replica_are_told_once_when_the_lease_has_run_out(
    redis_url: str, keys: Keys, hand: Hand, start: Start
):
    record = await hand.running(lease_ms=2500)
    async with live_side(redis_url, keys) as one, live_side(redis_url, keys) as other:
        readers = [await one.read(STREAM, start), await one.read(STREAM, start), await other.read(STREAM, start)]
        await hand.append(record, 1, drafts("1"))
        for reader in readers:
            (stalled,) = await reader.until("stalled")
            assert not stalled.id
            until = (await hand.fields())["lease_until"]
            assert json.loads(stalled.data) == {"stream": STREAM, "since": rfc3339(until), "reason": "worker_lost"}
            assert reader.types[-2:] == ["t", "stalled"]
        late = await other.read(STREAM, start)
        await late.until("stalled")
        new = await hand.claimed(nonce="n2")
        await hand.append(new, 1, drafts("2"), nonce="n2")
        for reader in (*readers, late):
            await reader.until("t", count=1 if reader is late and start.at else 2)
            assert reader.types.count("stalled") == 1


async def test_a_reader_that_comes_when_the_worker_is_long_dead_is_told_too(redis_url: str, keys: Keys, hand: Hand):
    await hand.running(lease_ms=0)
    async with live_side(redis_url, keys) as side:
        reader = await side.read(STREAM)
        await reader.until("stalled")
        assert reader.types == ["attempt", "stalled"]


async def test_it_is_told_again_when_the_next_worker_is_lost_too(redis_url: str, keys: Keys, hand: Hand):
    await hand.running(lease_ms=0)
    async with live_side(redis_url, keys) as side:
        reader = await side.read(STREAM)
        await reader.until("stalled")
        await hand.claimed(nonce="n2", lease_ms=600)
        await reader.until("stalled", count=2)
        assert reader.types == ["attempt", "stalled", "attempt", "stalled"]


async def test_readers_are_told_why_a_task_pauses_and_until_when(redis_url: str, keys: Keys, hand: Hand):
    await hand.running(lease_ms=20_000)
    async with live_side(redis_url, keys) as side:
        reader = await side.read(STREAM)
        await reader.until("attempt")
        postponed = await hand.retry(error="ValueError: no")
        (told,) = await reader.until("stalled")
        since = (await hand.fields())["updated_at"]
        until = rfc3339(str(postponed.not_before_ms))
        assert json.loads(told.data) == {
            "stream": STREAM, "since": rfc3339(since), "reason": "retry", "error": "ValueError: no", "not_before": until
        }  # fmt: skip
        late = await side.read(STREAM)
        await late.until("stalled")
        await execute(hand.client, "HDEL", keys.record("a"), "not_before")
        await hand.claimed(nonce="n2")
        await reader.until("attempt", count=2)
        assert reader.types == ["attempt", "stalled", "attempt"]


async def test_a_sign_that_was_read_before_a_later_look_is_read_again(
    client: AsyncClient, keys: Keys, hand: Hand, monkeypatch: pytest.MonkeyPatch
):
    await hand.running(lease_ms=20_000)
    await hand.retry()
    tail = Told(STREAM)
    tail.life.look_at = 0.0
    log = Log(client, keys, lifetimes=LIFETIMES, max_events=0)
    watch = LifeWatch(log, lambda: [tail], lease_seconds=60, may_judge=lambda: True)
    read = log.signs

    async def overtaken(streams: Sequence[str]) -> list[Sign | None]:
        signs = await read(streams)
        tail.life.note(Sign(Status.RUNNING, 20_000, 9000), now=0.0, may_judge=False)
        return signs

    with monkeypatch.context() as slow:
        slow.setattr(log, "signs", overtaken)
        await watch.look_once()
    assert (tail.wakes, tail.life.silence) == (0, None)
    await watch.look_once()
    assert tail.wakes == 1
    assert tail.life.silence
    assert tail.life.silence.pause


def test_a_pause_is_over_when_an_attempt_begins():
    life, pause = Life(15.0), Pause(1000, "E: no", 9000)
    assert life.note(Sign(Status.PENDING, 0, -1, pause), now=0.0, may_judge=False)
    assert life.silence == Silence(1000, pause)
    assert not life.note(Sign(Status.PENDING, 0, -1, pause), now=1.0, may_judge=False)
    assert life.note(Sign(Status.RUNNING, 20_000, 9000), now=2.0, may_judge=False)
    assert life.silence is None
    life.note(Sign(Status.PENDING, 0, -1, pause), now=3.0, may_judge=False)
    assert life.note(Sign(Status.RUNNING, 20_000, -1), now=4.0, may_judge=False)
    assert life.silence is None


async def test_a_renewed_lease_a_pending_and_an_ended_task_miss_nobody(redis_url: str, keys: Keys, hand: Hand):
    record = await hand.running(lease_ms=20_000)
    await hand.create("waiting")
    await hand.running("lost", lease_ms=0)
    async with live_side(redis_url, keys) as side:
        reader, waiting = await side.read(STREAM), await side.read("tasks.waiting")
        await (await side.read("tasks.lost")).until("stalled")  # from now on leases are judged
        for _ in range(3):
            await looked_at(reader, waiting)
            await hand.renew(lease_ms=20_000)
        await hand.finish(record, 1)
        await reader.end()
        assert reader.types == ["attempt", "complete"]
        assert waiting.types == ["position"]


async def test_nobody_is_missed_before_this_process_has_been_in_touch_for_a_lease(
    client: AsyncClient, keys: Keys, hand: Hand
):
    """After an outage every lease has run out, and every worker lives: they renew first."""
    await hand.running(lease_ms=0)
    tail = Told(STREAM)
    tail.life.look_at = 0.0
    watch = LifeWatch(
        Log(client, keys, lifetimes=LIFETIMES, max_events=0), lambda: [tail], lease_seconds=60, may_judge=lambda: True
    )
    await watch.look_once()
    await watch.look_once()
    assert (tail.wakes, tail.life.silence) == (0, None)


async def test_a_thousand_watched_tasks_take_a_look_each_per_lease_in_few_round_trips(
    client: AsyncClient, keys: Keys, hand: Hand
):
    tails = [Told(f"tasks.t{number}") for number in range(1000)]
    for number, tail in enumerate(tails):
        await execute(client, "HSET", keys.record(f"t{number}"), "status", "running", "lease_until", 1)
        await execute(client, "PEXPIRE", keys.record(f"t{number}"), 60_000)
        tail.life.look_at = 0.0
    watch = LifeWatch(
        Log(client, keys, lifetimes=LIFETIMES, max_events=0), lambda: tails, lease_seconds=60, may_judge=lambda: False
    )
    before = await _commands(client)
    await watch.look_once()
    assert (
        await _commands(client) - before <= 1000 + 5 * 2 + 2
    )  # in each round trip the time, and a write that changes nothing


@pytest.mark.parametrize(
    ("status", "left_ms", "may_judge", "is_stalled", "look_in"),
    [
        (Status.RUNNING, 5000, True, False, 5.05),
        (Status.RUNNING, 0, True, True, 15.0),
        (Status.RUNNING, -9000, False, False, 0.0),
        (Status.PENDING, -9000, True, False, 15.0),
        (Status.COMPLETED, -9000, True, False, float("inf")),
    ],
)
def test_what_the_record_says_of_the_writer(
    status: Status, left_ms: int, may_judge: bool, is_stalled: bool, look_in: float
):
    life = Life(15.0)
    changed = life.note(Sign(status, 1000, left_ms), now=100.0, may_judge=may_judge)
    assert changed == is_stalled == (life.silence == Silence(1000))
    assert life.look_at == pytest.approx(100 + look_in)


async def looked_at(*readers: Reader) -> None:
    """Have the records of their tasks looked at now."""
    lives = [reader.subscription.strands[0].tail.life for reader in readers]
    for life in lives:
        life.look_at = 0.0
    await wait_until(lambda: all(life.look_at for life in lives), description="the records are looked at")


class Told:
    """A tail that counts its wakes."""

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.life = Life(60)
        self.wakes = 0

    def wake(self) -> None:
        self.wakes += 1


async def _commands(client: AsyncClient) -> int:
    info: Any = await execute(client, "INFO", "stats")
    return int(info["total_commands_processed"])


async def test_no_lease_is_judged_after_a_silence_of_redis_that_broke_no_connection(
    redis_url: str, keys: Keys, monkeypatch: pytest.MonkeyPatch
):
    async with live_side(redis_url, keys, lease_seconds=2) as side:
        await wait_until(lambda: side.hub.may_judge_leases, description="a lease has passed in touch")

        async def silence(_: object) -> list[Sign | None]:
            raise LogUnavailable("no reply")

        with monkeypatch.context() as away:
            away.setattr(side.log, "signs", silence)
            await wait_until(lambda: not side.hub.may_judge_leases, description="the silence is noticed")
        assert side.bells.is_connected
        await wait_until(lambda: side.hub.may_judge_leases, description="another lease has passed")

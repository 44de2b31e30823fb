"""A state machine of workers that die at every step: each task ends exactly once, or is a dead letter once.

Hypothesis draws who does what next: claim, renew, fail, finish, hand back, crash between any two steps, wake up as a
zombie, cancel, promote, execute now, reap, wait; and whether the task begins later. All of it is the product's own
scripts on a real server; only time is the model's.
It must fail when the conditional renewal or the fence is taken out: see the last test.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from server.streams import calls
from server.streams.calls import Batch, Call, Ending, Lifetimes, T, WriterCalls
from server.streams.delayed import due_call, member_of, promote_call
from server.streams.event import CANCELLED, Draft
from server.streams.ids import EventId
from server.streams.keys import Keys
from server.streams.records import TaskRecord
from tests.model.scripts import MICROSECONDS_KEY, SECONDS_KEY, Cut, model_scripts
from tests.model.world import Server

TASK = "t"
LEASE_MS = 3000
MAX_ATTEMPTS = 3
LIFETIMES = Lifetimes()
KEYS = Keys()
_TERMINAL = {"complete", "error", "cancelled"}
_WORKERS = st.sampled_from(["A", "B", "C"])


@dataclass(slots=True)
class Claim:
    """What a worker process knows of the task it runs."""

    record: TaskRecord
    nonce: str
    #: By the worker's own clock.
    fresh_until: int
    #: How far Redis' clock had jumped when it was claimed or renewed: afterwards the lease may be less than it seems.
    ahead_ms: int = 0
    sequence: int = 0
    is_over: bool = False


@dataclass
class Bench:
    """The server, the model's clock, and who holds what."""

    server: Server
    #: The workers' clock.
    now_ms: int = 1_800_000_000_000
    #: How far Redis' clock has jumped ahead of it.
    ahead_ms: int = 0
    nonces: int = 0
    claims: dict[str, Claim] = field(default_factory=dict[str, Claim])

    @property
    def redis_ms(self) -> int:
        """What Redis' clock says."""
        return self.now_ms + self.ahead_ms

    def send(self, *command: Any) -> Any:
        now = self.redis_ms
        clock = ("MSET", SECONDS_KEY, now // 1000, MICROSECONDS_KEY, now % 1000 * 1000)
        reply = self.server.requests.many([clock, command])[1]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def run(self, call: Call[T]) -> T:
        return call.parse(self.send("EVAL", call.script.text, *call.tail()))

    def record(self) -> dict[str, str]:
        raw = self.send("HGETALL", KEYS.record(TASK))
        return {raw[at].decode(): raw[at + 1].decode() for at in range(0, len(raw), 2)}


class LivesOfTasks(RuleBasedStateMachine):
    """One task, three worker processes."""

    server: ClassVar[Server]

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(self.server)
        #: Before when nobody may begin, by Redis' clock.
        self.not_before = 0
        self.is_new = True
        self.create(0)

    def create(self, delay_ms: int) -> None:
        self.bench.send("FLUSHALL")
        values = {
            "type": "x", "title": "x", "input": "{}", "queue": "q", "max_attempts": str(MAX_ATTEMPTS), "queued": "1",
        }  # fmt: skip
        call = calls.create(KEYS, TASK, body="b", values=values, lifetimes=LIFETIMES, delay_ms=delay_ms)
        record = self.bench.run(call).record
        assert record
        assert record.not_before_ms == (self.bench.redis_ms + delay_ms if delay_ms else 0)

    @rule(delay_ms=st.sampled_from([1000, 5000]))
    def begin_later(self, delay_ms: int) -> None:
        """It was created with a delay, if nothing has been done with it so far."""
        if self.is_new:
            self.create(delay_ms)
            self.put_off(self.bench.now_ms + delay_ms)

    def put_off(self, not_before_ms: int) -> None:
        self.not_before = not_before_ms
        self.bench.send("ZADD", KEYS.delayed("q"), not_before_ms, member_of("x", TASK))

    @rule()
    def execute(self) -> None:
        """A task that was created with a delay begins now; one that failed keeps its pause."""
        before = self.bench.record()
        reply = self.bench.run(calls.start(KEYS, TASK, rerun_of=None, lifetimes=LIFETIMES))
        is_put_off = before["status"] == "pending" and "not_before" in before and before["reason"] != "retry"
        assert (reply.outcome == "started") == is_put_off
        if is_put_off:
            self.not_before = 0
            self.bench.send("ZREM", KEYS.delayed("q"), member_of("x", TASK))
        self.look()

    @rule(worker=_WORKERS)
    def claim(self, worker: str) -> None:
        bench = self.bench
        bench.nonces += 1
        nonce = f"{worker}{bench.nonces}"
        before = bench.record()
        call = calls.claim(
            KEYS, TASK, nonce=nonce, worker=worker, lease_ms=LEASE_MS, entropy=bench.nonces % 1000,
            lifetimes=LIFETIMES, may_take_expired=True,
        )  # fmt: skip
        claimed = bench.run(call)
        if claimed.record is None:
            self.look()
            return
        for each in bench.claims.values():
            held = each.fresh_until > bench.now_ms and not each.is_over and each.ahead_ms == bench.ahead_ms
            assert not held or before["status"] != "running", "a task was taken from a worker with a fresh lease"
        assert bench.redis_ms >= self.not_before, "a task began before its time"
        self.not_before = 0
        bench.claims[worker] = Claim(claimed.record, nonce, bench.now_ms + LEASE_MS, bench.ahead_ms)
        self.look()

    @rule(worker=_WORKERS, zombie=st.sampled_from(["sleeps", "renews", "fails"]))
    def take_over(self, worker: str, zombie: str) -> None:
        """What most promises are about: whoever ran it is silent for longer than its lease, another one comes."""
        self.wait(4.0)
        self.promote()
        self.claim(worker)
        for other in sorted(self.bench.claims.keys() - {worker}):
            if zombie == "renews":
                self.renew(other)
            elif zombie == "fails":
                self.fail(other)

    @rule(worker=_WORKERS)
    def renew(self, worker: str) -> None:
        claim = self.bench.claims.get(worker)
        if claim is None or claim.is_over:
            return
        stored = EventId(claim.record.generation, claim.sequence)
        call = calls.renew(KEYS, TASK, nonce=claim.nonce, lease_ms=LEASE_MS, lifetimes=LIFETIMES, stored=stored)
        if self.bench.run(call).outcome == "renewed":
            claim.fresh_until, claim.ahead_ms = self.bench.now_ms + LEASE_MS, self.bench.ahead_ms
            newest = max(each.record.generation for each in self.bench.claims.values())
            assert claim.record.generation == newest, "a zombie renewed its lease"
        else:
            claim.is_over = True
        self.look()

    @rule(worker=_WORKERS, count=st.integers(1, 3))
    def emit(self, worker: str, count: int) -> None:
        self._append(worker, [Draft("token", "{}")] * count, {})

    @rule(worker=_WORKERS)
    def finish(self, worker: str) -> None:
        self._append(worker, [Draft("complete", '{"result":1}')], {"status": "completed", "end": '{"result":1}'})

    @rule(worker=_WORKERS)
    def fail(self, worker: str) -> None:
        """As `Attempt._fail`: put off while attempts are left, else ended as a dead letter."""
        claim = self.bench.claims.get(worker)
        if claim is None or claim.is_over:
            return
        if not claim.record.has_attempts_left:
            end = '{"error":"e","code":"task_failed"}'
            self._append(worker, [Draft("error", end)], {"status": "failed", "end": end, "dead": "1"})
            return
        call = calls.retry(
            KEYS, TASK, nonce=claim.nonce, delay_ms=1000, error="e", code="task_failed", lifetimes=LIFETIMES
        )
        first = self.bench.run(call)
        assert self.bench.run(call) == first, "a repeated request got another answer"
        claim.is_over = first.outcome != "cancelled"
        if first.outcome == "postponed":
            self.put_off(first.not_before_ms)
        self.look()

    @rule(worker=_WORKERS)
    def hand_back(self, worker: str) -> None:
        claim = self.bench.claims.get(worker)
        if claim is not None and not claim.is_over:
            call = calls.release(KEYS, TASK, nonce=claim.nonce)
            first = self.bench.run(call)
            assert self.bench.run(call) == first, "a repeated request got another answer"
            claim.is_over = first.outcome != "cancelled"
            self.look()

    @rule(worker=_WORKERS)
    def crash(self, worker: str) -> None:
        self.bench.claims.pop(worker, None)

    @rule()
    def cancel(self) -> None:
        call = calls.settle(
            KEYS, TASK, Ending("cancelled", CANCELLED, "{}"), mode="cancel", entropy=self.bench.nonces % 1000,
            lifetimes=LIFETIMES, may_judge_expired=True,
        )  # fmt: skip
        self.bench.run(call)
        self.look()

    @rule()
    def reap(self) -> None:
        self.bench.run(calls.expire(KEYS, TASK, entropy=self.bench.nonces % 1000, lifetimes=LIFETIMES))
        self.look()

    @rule()
    def promote(self) -> None:
        found = self.bench.run(due_call(KEYS, "q", limit=10))
        if found.members:
            assert self.bench.redis_ms >= self.not_before, "a task was promoted before its time"
            entries = self.bench.run(promote_call(KEYS, "q", "x", [TASK]))
            again = self.bench.run(promote_call(KEYS, "q", "x", [TASK]))
            assert (bool(entries[0]), again) == (True, ("",)), "a task was promoted twice"

    @rule(seconds=st.sampled_from([0.5, 1.5, 4.0]))
    def wait(self, seconds: float) -> None:
        self.bench.now_ms += int(seconds * 1000)

    def _append(self, worker: str, drafts: Sequence[Draft], values: dict[str, str]) -> None:
        claim = self.bench.claims.get(worker)
        if claim is None or claim.is_over:
            return
        if claim.fresh_until <= self.bench.now_ms:  # a writer renews before it writes
            self.renew(worker)
            if claim.is_over:
                return
        ends = drafts[0].type in _TERMINAL
        made = WriterCalls(
            KEYS, TASK, generation=claim.record.generation, nonce=claim.nonce, lease_ms=LEASE_MS, lifetimes=LIFETIMES
        )
        batch = Batch(claim.record.generation, claim.sequence + 1, drafts, is_terminal=ends)
        call = made.append(batch, expected=EventId(claim.record.generation, claim.sequence), values=values)
        if self.bench.run(call).outcome == "stored":
            claim.sequence += len(drafts)
            claim.is_over = ends
        else:
            claim.is_over = True
        self.look()

    def look(self) -> None:
        """What must hold whatever was done."""
        self.is_new = False
        record = self.bench.record()
        rows = self.bench.send("XRANGE", KEYS.log(f"tasks.{TASK}"), "-", "+")
        types = [dict(zip(fields[::2], fields[1::2], strict=True))[b"e"].decode() for _, fields in rows]
        ends = [each for each in types if each in _TERMINAL]
        assert len(ends) <= 1, f"the task ended more than once: {types}"
        assert not ends or types[-1] in _TERMINAL, f"something was written behind the end: {types}"
        is_ended = record["status"] in {"completed", "failed", "cancelled"}
        assert is_ended == bool(ends), f"record and log disagree: {record['status']} and {types}"
        assert ("dead" in record) == (record["status"] == "failed"), "given up, and no dead letter, or the reverse"
        assert int(record["spent"]) <= MAX_ATTEMPTS, "more attempts than allowed"
        assert record["status"] != "pending" or "cancel" not in record, "a cancelled task waits for a claim"
        generations = [int(raw.split(b"-")[0]) for raw, _ in rows]
        assert generations == sorted(generations)
        errors = [json.loads(line)["attempt"] for line in record.get("errors", "").split("\n") if line]
        assert len(set(errors)) == len(errors), f"an attempt failed twice: {errors}"

    def teardown(self) -> None:
        """Whatever has happened, workers that stay alive bring the task to its end."""
        self.bench.claims.clear()
        for _ in range(3 * MAX_ATTEMPTS):
            self.bench.now_ms += 2 * LEASE_MS
            self.promote()
            self.claim("A")
            self.finish("A")
        self.look()
        assert self.bench.record()["status"] in {"completed", "failed", "cancelled"}, "the task never ended"


class LivesUnderJumps(LivesOfTasks):
    """The same where Redis' clock jumps ahead: every lease runs out at once, and who holds one does not know."""

    @rule()
    def jump(self) -> None:
        self.bench.ahead_ms += 3_600_000


@pytest.mark.parametrize("lives", [LivesOfTasks, LivesUnderJumps], ids=["steady clock", "clock that jumps"])
def test_every_task_ends_once_or_is_a_dead_letter_once(model_server: Server, lives: type[LivesOfTasks]):
    machine = type("Machine", (lives,), {"server": model_server})
    with model_scripts():
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=150,
                stateful_step_count=30,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
            ),
        )


@pytest.mark.parametrize(
    ("cut", "steps", "seen"),
    [
        (
            Cut("renew", "if found[1] ~= ARGV[1] or found[2] ~= 'running' then", "if false then"),
            ["claim A", "take_over B", "renew A"],
            "a zombie renewed its lease",
        ),
        (
            Cut("renew", "if found[1] ~= ARGV[1] or found[2] ~= 'running' then", "if false then"),
            ["claim A", "jump", "claim B", "renew A"],
            "a zombie renewed its lease",
        ),
        (
            Cut("retry", "if status ~= 'running' or found[2] ~= nonce then", "if false then"),
            ["claim A", "take_over B", "fail A", "fail B"],
            "an attempt failed twice",
        ),
        (
            Cut("release", "if status == 'pending' and found[4] == nonce then", "if false then"),
            ["claim A", "hand_back A"],
            "a repeated request got another answer",
        ),
        (
            Cut("release", "if found[3] then", "if false then"),
            ["claim A", "cancel", "hand_back A"],
            "a cancelled task waits for a claim",
        ),
        (
            Cut("claim", "if status == 'running' and lease_until > now then", "if false then"),
            ["claim A", "claim B"],
            "fresh lease",
        ),
        (
            Cut("claim", "if status == 'pending' and tonumber(found[14] or '0') > now then", "if false then"),
            ["begin_later", "claim A"],
            "began before its time",
        ),
        (
            Cut("due", "'-inf', whole(now), 'LIMIT'", "'-inf', '+inf', 'LIMIT'"),
            ["begin_later", "promote"],
            "promoted before its time",
        ),
    ],
    ids=[
        "renewal",
        "renewal after a jump",
        "fence of a retry",
        "repeated release",
        "cancel before a release",
        "lease",
        "time of a claim",
        "time of a promotion",
    ],
)
def test_without_the_condition_a_promise_is_broken(model_server: Server, cut: Cut, steps: list[str], seen: str):
    """The shortest way to it, by the machine's own steps: to search for it takes as long as it is unlucky."""
    with model_scripts([]):
        go(model_server, steps)
    with model_scripts([cut]), pytest.raises(AssertionError, match=seen):
        go(model_server, steps)


def go(server: Server, steps: Sequence[str]) -> None:
    machine = type("Machine", (LivesUnderJumps,), {"server": server})()
    more: dict[str, dict[str, object]] = {"take_over": {"zombie": "sleeps"}, "begin_later": {"delay_ms": 1000}}
    for step in steps:
        name, _, worker = step.partition(" ")
        given: dict[str, object] = {"worker": worker} if worker else {}
        getattr(machine, name)(**given, **more.get(name, {}))
    machine.teardown()

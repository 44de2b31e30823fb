"""A state machine of requests with one unique key that overtake each other and die between any two of their steps.

The requests are the product's own, `TaskStore` on a real server; each waits before every command that others could come
between, until Hypothesis says who goes on. At no moment may two tasks with the key be unfinished.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from server.streams import calls
from server.streams.announcements import Announcer
from server.streams.calls import Batch, Lifetimes, WriterCalls
from server.streams.connections import AsyncClient, run
from server.streams.errors import Conflict, Unknown
from server.streams.event import Draft
from server.streams.ids import EventId
from server.streams.keys import Keys
from server.streams.log import Log
from server.streams.records import Status, TaskRecord
from server.streams.tasks import NewTask, TaskStore
from server.streams.unique import Holder
from tests.model.scripts import MICROSECONDS_KEY, SECONDS_KEY, Cut, model_scripts
from tests.model.world import Server

KEYS = Keys()
LIFETIMES = Lifetimes()
NEW = NewTask("t", {}, unique_key="k")
#: Before these a request can be overtaken in a way that matters; the others are hints and indexes.
_STEPS = {"EVAL", "EVALSHA", "HGETALL", "HMGET"}
_NAMES = st.sampled_from(["A", "B", "C"])
#: A few, or as many as it takes.
_SOME = st.sampled_from([1, 2, 3, 4, 5, 100, 100])


class Gate:
    """A Redis client that waits for its turn before each step, or none if it is `open`."""

    def __init__(self, server: Server, *, is_open: bool = False) -> None:
        self._server = server
        self._is_open = is_open
        self.turn: asyncio.Future[None] | None = None

    async def execute_command(self, *command: Any) -> Any:
        (reply,) = await self.exchange([command])
        return reply

    def pipeline(self, *, transaction: bool) -> _Pipeline:
        return _Pipeline(self)

    async def exchange(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        if not self._is_open and commands[0][0] in _STEPS:
            self.turn = asyncio.get_running_loop().create_future()
            await self.turn
            self.turn = None
        replies = self._server.requests.many(commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return [_shaped(*each) for each in zip(commands, replies, strict=True)]


class _Pipeline:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._commands: list[tuple[Any, ...]] = []

    def execute_command(self, *command: Any) -> None:
        self._commands.append(command)

    async def execute(self) -> list[Any]:
        return await self._gate.exchange(self._commands)

    async def reset(self) -> None:
        self._commands = []


def _shaped(command: tuple[Any, ...], reply: Any) -> Any:
    return dict(zip(reply[::2], reply[1::2], strict=True)) if command[0] == "HGETALL" else reply


class Quiet(Announcer):
    """Tells nobody: what is told decides nothing."""

    async def created(self, record: TaskRecord) -> None:
        pass

    async def updated(self, record: TaskRecord, *, to_system: bool = False) -> bool:
        return True


def store_over(client: AsyncClient) -> TaskStore:
    announcer = Quiet(Log(client, KEYS, lifetimes=LIFETIMES, max_events=100))
    return TaskStore(client, KEYS, announcer, lifetimes=LIFETIMES, may_judge_expired=lambda: True)


@dataclass(slots=True)
class Request:
    """What one process is doing."""

    gate: Gate
    running: asyncio.Task[TaskRecord | None]
    #: Tasks that were unfinished at some moment since it began.
    seen: set[str] = field(default_factory=set[str])


class OneAtATime(RuleBasedStateMachine):
    """Three processes, one key."""

    server: ClassVar[Server]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.client: Any = Gate(self.server, is_open=True)
        self.store = store_over(self.client)
        self.requests: dict[str, Request] = {}
        self.nonces = 0
        self.server.requests.many([("FLUSHALL",), ("MSET", SECONDS_KEY, 1_800_000_000, MICROSECONDS_KEY, 0)])

    def do(self, act: Awaitable[Any]) -> Any:
        async def whole() -> Any:
            return await act

        return self.loop.run_until_complete(whole())

    def records(self) -> list[TaskRecord]:
        names = sorted(name.decode() for name in self.do(self.client.execute_command("KEYS", "*:task")))
        found = self.do(self.store.find_many([name.split("{tasks.")[1].split("}")[0] for name in names]))
        return [record for record in found if record and record.status is not Status.DELETED]

    @rule(name=_NAMES, steps=_SOME)
    def ask(self, name: str, steps: int) -> None:
        self.begin(name, lambda store: store.create(NEW), steps)

    @rule(name=_NAMES, steps=_SOME, which=st.integers(0, 2))
    def run_again(self, name: str, steps: int, which: int) -> None:
        ended = [record for record in self.records() if record.status.is_ended]
        if ended:
            record = ended[which % len(ended)]
            self.begin(name, lambda store: store.start(record.id, rerun_of=record.attempt), steps)

    @rule(name=_NAMES, steps=_SOME)
    def reap(self, name: str, steps: int) -> None:
        seen = self.records()  # as old as that when it comes to the holder

        async def look(store: TaskStore) -> None:
            for record in seen:
                await (store.release_key(record) if record.status.is_ended else store.keep_key(record))

        self.begin(name, look, steps)

    @rule(name=_NAMES, steps=_SOME)
    def go_on(self, name: str, steps: int) -> None:
        for _ in range(steps):
            self.step(name)

    @rule(name=_NAMES)
    def crash(self, name: str) -> None:
        request = self.requests.pop(name, None)
        if request:
            request.running.cancel()
            self.do(asyncio.wait({request.running}))

    @rule(how=st.sampled_from(["cancel", "complete", "delete"]))
    def end(self, how: str) -> None:
        for record in self.records():
            if how == "delete" and record.status.is_ended:
                self.do(self.store.delete(record.id))
            elif how == "cancel" and not record.status.is_ended:
                self.do(self.store.cancel(record.id))
            elif how == "complete" and not record.status.is_ended:
                self.do(self.complete(record.id))

    async def complete(self, task_id: str) -> None:
        self.nonces += 1
        nonce = f"n{self.nonces}"
        claim = calls.claim(
            KEYS, task_id, nonce=nonce, worker="w", lease_ms=3000, entropy=self.nonces, lifetimes=LIFETIMES,
            may_take_expired=True,
        )  # fmt: skip
        record = (await run(self.client, claim)).record
        assert record
        made = WriterCalls(KEYS, task_id, generation=record.generation, nonce=nonce, lease_ms=3000, lifetimes=LIFETIMES)
        batch = Batch(record.generation, 1, [Draft("complete", "{}")], is_terminal=True)
        values = {"status": "completed", "end": "{}"}
        reply = await run(self.client, made.append(batch, expected=EventId(record.generation, 0), values=values))
        assert reply.outcome == "stored"

    def begin(self, name: str, act: Callable[[TaskStore], Awaitable[TaskRecord | None]], steps: int) -> None:
        if name in self.requests:
            return
        gate: Any = Gate(self.server)

        async def whole() -> TaskRecord | None:
            return await act(store_over(gate))

        self.requests[name] = Request(gate, self.loop.create_task(whole()))
        self.settle(self.requests[name])
        self.look()
        self.go_on(name, steps)

    def step(self, name: str) -> None:
        request = self.requests.get(name)
        if request is None:
            return
        if request.gate.turn is not None:
            request.gate.turn.set_result(None)
            self.settle(request)
        self.look()
        if request.running.done():
            del self.requests[name]
            error = request.running.exception()
            assert error is None or isinstance(error, (Conflict, Unknown)), error
            result = None if error else request.running.result()
            if result is not None and result.values.get("reason") != "rerun":
                assert result.id in request.seen, "the answer is a task that had ended before it was asked for"

    def settle(self, request: Request) -> None:
        """Let it go on up to its next step."""

        async def until_it_waits() -> None:
            while not request.running.done() and (request.gate.turn is None or request.gate.turn.done()):  # noqa: ASYNC110
                await asyncio.sleep(0)  # it is the loop itself that is waited for

        self.loop.run_until_complete(until_it_waits())

    def look(self) -> None:
        alive = [record.id for record in self.records() if not record.status.is_ended]
        assert len(alive) <= 1, f"{len(alive)} tasks with one key are unfinished"
        for request in self.requests.values():
            request.seen |= set(alive)

    def teardown(self) -> None:
        """Whoever is under way comes to an end, and then the key is one task's, or free for one."""
        try:
            for name in list(self.requests):
                self.go_on(name, 100)
            record = self.do(self.store.create(NEW))
            self.look()
            assert not record.status.is_ended
        finally:
            for name in list(self.requests):
                self.crash(name)
            self.loop.close()


def play(server: Server, *, examples: int) -> None:
    machine = type("Machine", (OneAtATime,), {"server": server})
    with model_scripts():
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=25,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
            ),
        )


@pytest.mark.timeout(120)
def test_one_task_at_a_time_has_the_key_whoever_dies_and_whoever_is_overtaken(model_server: Server):
    play(model_server, examples=150)


#: Each is a request, and what others do, one after the other, while it waits at one of its steps.
OVERTAKEN = [
    ("ask", ["ask"]),
    ("run_again", ["ask"]),
    ("run_again", ["ask", "cancel", "ask"]),
    ("reap", ["ask"]),
    ("ask", ["ask", "complete", "ask"]),
    ("ask", ["ask", "cancel", "delete", "ask"]),
    ("run_again", ["delete", "ask"]),
    ("reap", ["ask", "cancel"]),
]
_MOST_STEPS = 12


def overtake(server: Server, late: str, others: Sequence[str], steps: int) -> None:
    """A task has ended; a late request goes so many steps, then the others come, then it goes on."""
    machine = type("Machine", (OneAtATime,), {"server": server})()
    try:
        machine.ask("A", 100)
        machine.end("complete")
        getattr(machine, late)(name="A", steps=steps, **({"which": 0} if late == "run_again" else {}))
        for other in others:
            if other == "ask":
                machine.ask("B", 100)
            else:
                machine.end(other)
        machine.go_on("A", 100)
    finally:
        machine.teardown()


def overtake_everywhere(server: Server, late: str, others: Sequence[str]) -> None:
    for steps in range(_MOST_STEPS):
        overtake(server, late, others, steps)


@pytest.mark.parametrize(("late", "others"), OVERTAKEN)
def test_a_request_may_be_overtaken_at_each_of_its_steps(model_server: Server, late: str, others: list[str]):
    with model_scripts():
        overtake_everywhere(model_server, late, others)


def _has_ended_anyhow(_: Holder, record: TaskRecord | None) -> bool:
    return record is not None and record.status.is_ended


@pytest.mark.parametrize(
    ("late", "others", "cut"),
    [
        (*OVERTAKEN[0], Cut("hold", "if found[1] and found[3] ~= ARGV[4] then", "if found[1] and ARGV[4] == '' then")),
        (*OVERTAKEN[1], None),
        (*OVERTAKEN[2], Cut("start", "and (ARGV[4] == '' or found[6] == ARGV[4])", "")),
        (*OVERTAKEN[3], Cut("free", "if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then", "if false then")),
    ],
    ids=["token of a holder", "wait for a rerun", "end that a rerun replaces", "token of a release"],
)
def test_without_the_condition_two_tasks_have_one_key(
    model_server: Server, monkeypatch: pytest.MonkeyPatch, late: str, others: list[str], cut: Cut | None
):
    if cut is None:
        monkeypatch.setattr(Holder, "has_ended", _has_ended_anyhow)
    with model_scripts([cut] if cut else []), pytest.raises(AssertionError, match="with one key are unfinished"):
        overtake_everywhere(model_server, late, others)

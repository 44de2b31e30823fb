"""One stream and everybody around it: the server's state, two replicas, workers or publishers, clients.

What acts is product code: the scripts, `StreamWriter` with its `Outbox`, `Log.publish`, `Hub`, `Tail`, `Subscription`.
The world only carries what lies between them (requests, replies, rings, bytes), kills them, and breaks Redis.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from server.fanout.hub import Hub, HubOptions
from server.streams import calls
from server.streams.calls import Lifetimes
from server.streams.connections import AsyncClient
from server.streams.doorbell import Listener
from server.streams.keys import Keys
from server.streams.log import Log
from tests.model.clock import EPOCH_MS, VirtualLoop, settle
from tests.model.oracle import Oracle
from tests.model.scripts import MICROSECONDS_KEY, SECONDS_KEY
from tests.model.wire import Command, Link, Wire

LEASE_SECONDS = 3.0
LIFETIMES = Lifetimes()
REPLICAS = ("R1", "R2")
#: What one action takes: long enough for generations to follow the clock.
_STEP_SECONDS = 0.02
#: Longer than any schedule.
_NO_HEARTBEAT = 1e6
#: How long a failover takes at least.
_FAILOVER_SECONDS = 1.0


def _decisive() -> set[str]:
    """Scripts that change what the oracle compares with, by text and by hash."""
    found = [calls.script(name) for name in ("claim", "delete", "settle", "start")]
    return {text for script in found for text in (script.sha, script.text)}


@dataclass(slots=True)
class Server:
    """Connections to the Redis or Valkey under test, kept for all schedules of a run."""

    requests: Wire
    observer: Wire
    bells: Wire

    @classmethod
    def connect(cls, url: str) -> Server:
        return cls(Wire(url), Wire(url), Wire(url))

    def close(self) -> None:
        for wire in (self.requests, self.observer, self.bells):
            wire.close()


class Bells:
    """Doorbells of one replica, as `Hub` uses them; what they bring is up to the schedule."""

    def __init__(self) -> None:
        self.listener: Listener | None = None
        self.mode = "pass"
        self.held: deque[bytes] = deque()
        self.on_connect: Callable[[], None] = lambda: None
        self.is_connected = True

    def watch(self, channel: str, listener: Listener, *, timeout_seconds: float = 5.0) -> asyncio.Future[None]:
        self.listener = listener
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ready.set_result(None)
        return ready

    def unwatch(self, channel: str) -> None:
        self.listener = None

    def bring(self, payload: bytes) -> None:
        if self.mode == "hold":
            self.held.append(payload)
        elif self.mode == "pass" and self.listener:
            self.listener(payload)

    def release(self, order: str) -> None:
        payloads = list(self.held)
        self.held.clear()
        if order == "reversed":
            payloads.reverse()
        for payload in payloads * (2 if order == "twice" else 1):
            if self.listener:
                self.listener(payload)


@dataclass(slots=True)
class Replica:
    """One server process: its hub, its link to Redis, its doorbells."""

    name: str
    link: Link
    bells: Bells
    hub: Hub

    async def sweep(self) -> None:
        await self.hub._sweep()


@dataclass(slots=True)
class Backup:
    """What another master had: its keys, and the oracle's notes of that moment."""

    dumps: list[tuple[bytes, bytes]]
    notes: Any


@dataclass(slots=True)
class World:
    """Everything of one schedule."""

    server: Server
    loop: VirtualLoop
    stream: str
    #: For choices that are not worth a word in a schedule.
    random: random.Random = field(default_factory=lambda: random.Random(1))
    keys: Keys = field(default_factory=Keys)
    skew_ms: int = 0
    backup: Backup | None = None
    links: dict[str, Link] = field(default_factory=dict[str, Link])
    replicas: dict[str, Replica] = field(default_factory=dict[str, Replica])
    oracle: Oracle = field(init=False)
    #: Nonces of writers that know their leases to be fresh; the workers provide it.
    fresh_nonces: Callable[[], set[str]] = set[str]
    #: Since when Redis has been there without a break, in loop time.
    up_since: float = 0.0
    counter: int = 0
    _set_ms: int = 0
    _loaded_scripts: set[str] = field(default_factory=set[str])
    _failure: BaseException | None = None
    _background: set[asyncio.Task[Any]] = field(default_factory=set[asyncio.Task[Any]])

    def __post_init__(self) -> None:
        self.oracle = Oracle(self)
        self.up_since = self.loop.time() - 10 * LEASE_SECONDS
        self.server.requests.many([("FLUSHALL",), ("DEBUG", "CHANGE-REPL-ID")])
        self.server.bells.send("SSUBSCRIBE", self.keys.bell(self.stream))
        self.server.bells.next_reply()
        for name in REPLICAS:
            self.replicas[name] = self._replica(name)

    @property
    def log_key(self) -> str:
        return self.keys.log(self.stream)

    def link(self, name: str) -> Link:
        if name not in self.links:
            self.links[name] = Link(name, self.perform, self._loaded_scripts)
        return self.links[name]

    def perform(self, commands: Sequence[Command]) -> list[Any]:
        """Let requests take effect now, by the model's clock."""
        if any(command[1] in _decisive() for command in commands):
            self.oracle.look()  # what else happened in the same moment would be seen too late, or never
        now = self.redis_now_ms()
        if now == self._set_ms:
            return self.server.requests.many(commands)
        self._set_ms = now
        clock = ("MSET", SECONDS_KEY, now // 1000, MICROSECONDS_KEY, now % 1000 * 1000)
        return self.server.requests.many([clock, *commands])[1:]

    def redis_now_ms(self) -> int:
        return EPOCH_MS + round(self.loop.time() * 1000) + self.skew_ms

    def foreign_now_ms(self) -> int:
        """The clock of a machine that no failover changes."""
        return EPOCH_MS + round(self.loop.time() * 1000)

    def next_number(self) -> int:
        self.counter += 1
        return self.counter

    def has_been_up_for_a_lease(self) -> bool:
        return self.loop.time() - self.up_since >= LEASE_SECONDS

    def entropy(self, below: int = 1000) -> int:
        """Random 0-999, but for the one in a thousand that would hit a generation used before.

        That chance is part of the design (log.md §1); the model leaves it out, and its ablation takes the number away.
        """
        taken = self.oracle.generations
        floor = max(self.redis_now_ms(), self.oracle.highest_known_generation())
        while True:
            found = self.random.randrange(below)
            if floor + 1 + found not in taken:
                return found

    # What happens to Redis.

    def redis(self, *words: Any) -> Any:
        return self.server.requests.command(*words)

    def trim(self, keep: int) -> None:
        self.oracle.note_removal(self.redis, "XTRIM", self.log_key, "MAXLEN", keep)

    def delete_entry(self, place: int) -> None:
        ids = [row[0] for row in self.redis("XRANGE", self.log_key, "-", "+")]
        if ids:
            self.oracle.note_removal(self.redis, "XDEL", self.log_key, ids[place % len(ids)])

    def delete_log(self) -> None:
        self.oracle.note_loss(self.redis, "DEL", self.log_key)

    def flush_all(self) -> None:
        self.oracle.note_loss(self.redis, "FLUSHALL")
        self._set_ms = 0

    def take_backup(self) -> None:
        names = [key for key in self.redis("KEYS", "*") if not key.startswith(b"model:")]
        dumps = self.server.requests.many([("DUMP", name) for name in names])
        self.backup = Backup(list(zip(names, dumps, strict=True)), self.oracle.take_notes())

    async def fail_over(self, skew_ms: int) -> None:
        """Another master takes over, with what it had at the last backup (now, if none was taken)."""
        if self.backup is None:
            self.take_backup()
        assert self.backup
        await self._cut_everybody(_FAILOVER_SECONDS)
        self.skew_ms += skew_ms
        restores = [("RESTORE", name, 0, dump, "REPLACE") for name, dump in self.backup.dumps]
        self.server.requests.many([("FLUSHALL",), *restores, ("DEBUG", "CHANGE-REPL-ID")])
        self._set_ms = 0
        self._loaded_scripts.clear()
        self.oracle.note_restore(self.backup.notes)
        self._reconnected()

    async def restart(self) -> None:
        """Redis restarts with all its data."""
        await self._cut_everybody(0.2)
        self.server.requests.many([("DEBUG", "CHANGE-REPL-ID")])
        self._loaded_scripts.clear()
        self._reconnected()

    async def outage(self, seconds: float) -> None:
        """Redis is away for a while and comes back with all its data."""
        await self._cut_everybody(seconds)
        self._reconnected()

    async def _cut_everybody(self, seconds: float) -> None:
        for link in self.links.values():
            link.cut()
            link.is_down = True
        for replica in self.replicas.values():
            replica.bells.held.clear()
        await asyncio.sleep(seconds)
        await settle()

    def _reconnected(self) -> None:
        self.up_since = self.loop.time()
        for link in self.links.values():
            link.is_down = False
        for replica in self.replicas.values():
            replica.bells.on_connect()

    # What happens between actions.

    async def step(self, seconds: float = _STEP_SECONDS) -> None:
        """Let what was started take its course, and everybody see it."""
        await asyncio.sleep(seconds)
        await settle()
        self.observe()
        await settle()

    def observe(self) -> None:
        """Let the oracle look at the log and the record, and bring the rings."""
        self.oracle.look()
        self.server.bells.send("PING", "all")
        while (push := self.server.bells.next_reply())[0] != b"pong":
            if push[0] == b"smessage":
                for replica in self.replicas.values():
                    replica.bells.bring(push[2])

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """Run something beside the schedule; its failure fails the schedule."""
        found = asyncio.ensure_future(work)
        self._background.add(found)
        found.add_done_callback(self._reap_background)
        return found

    def check(self) -> None:
        """Raise what went wrong beside the schedule."""
        if self._failure:
            raise self._failure

    def _reap_background(self, done: asyncio.Task[Any]) -> None:
        self._background.discard(done)
        if not done.cancelled() and self._failure is None:
            self._failure = done.exception()

    async def close(self) -> None:
        others = [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]
        for each in others:
            each.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        self.server.bells.send("SUNSUBSCRIBE", self.keys.bell(self.stream))
        self.server.bells.next_reply()

    def _replica(self, name: str) -> Replica:
        link, bells = self.link(name), Bells()
        client: AsyncClient = link
        log = Log(client, self.keys, lifetimes=LIFETIMES, max_events=0)
        # No heartbeat: a subscriber that is woken for one looks about itself, and would hide a wake that is missing.
        options = HubOptions(lease_seconds=LEASE_SECONDS, heartbeat_seconds=_NO_HEARTBEAT)
        hub = Hub(log, bells, options=options)  # type: ignore[arg-type]
        return Replica(name, link, bells, hub)

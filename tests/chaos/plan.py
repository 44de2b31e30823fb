"""From one seed to everything a run does: which faults strike whom and when, which tasks are started, who reads them.

Pure: the same seed, size and kinds give the same plan, on every machine. What the faults then meet is up to the clocks
of the processes, so a replay repeats the plan and not each interleaving. Imports nothing of the product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from tests.chaos.truth import End, Script


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: whom it strikes, how often against the others, for how long, and how hard."""

    #: What the targets' names begin with.
    strikes: tuple[str, ...]
    weight: float
    seconds: tuple[float, float]
    #: What `amount` means is up to the kind.
    amount: tuple[float, float] = (0.0, 0.0)
    #: The target is left alone for so long afterwards: a process has to start first.
    rest: float = 2.0
    says: str = ""


#: Links, by whose way they are. `link:readers-…` is between readers (or their balancer) and a replica.
_LINKS = ("link:",)


@dataclass(frozen=True, slots=True)
class Shape:
    """What of Redis can be struck, by the names that plans use."""

    #: Servers by what they are at that moment; which it strikes is decided then.
    roles: tuple[str, ...]
    #: Nodes whose addresses are announced to everybody: one way leads to each, for all of its clients and for the
    #: other nodes. Without them each client has a way of its own.
    announced: tuple[str, ...] = ()


_DATA = tuple(f"node{n}" for n in range(1, 7))
SENTINELS = ("sentinel1", "sentinel2", "sentinel3")
TOPOLOGIES: dict[str, Shape] = {
    "single": Shape(("redis",)),
    "sentinel": Shape(("master", "replica", "sentinel"), (*_DATA[:3], *SENTINELS)),
    "cluster": Shape(("master", "replica", "slots"), _DATA),
}

KINDS: dict[str, Kind] = {
    "kill-server": Kind(("server",), 3, (0.1, 3), rest=6, says="SIGKILL a replica, start it again after a while"),
    "stop-server": Kind(("server",), 2, (0.1, 1), rest=8, says="SIGTERM a replica, which drains; start it again"),
    "pause-server": Kind(("server",), 2, (0.3, 6), says="SIGSTOP a replica, then SIGCONT"),
    "kill-worker": Kind(("worker",), 5, (0.1, 4), rest=6, says="SIGKILL a worker, start it again after a while"),
    "stop-worker": Kind(("worker",), 2, (0.1, 1), rest=8, says="SIGTERM a worker, which hands its tasks back"),
    "pause-worker": Kind(("worker",), 3, (0.3, 9), says="SIGSTOP a worker, perhaps for longer than its lease"),
    "kill-redis": Kind(("redis",), 1.5, (0.1, 3), rest=4, says="SIGKILL Redis, start it again with all its data"),
    "pause-redis": Kind(("redis",), 1, (0.3, 3), rest=4, says="SIGSTOP Redis, then SIGCONT"),
    "lose-redis": Kind(
        ("redis",),
        1.2,
        (0.0, 1),
        amount=(0.2, 1.5),
        rest=6,
        says="SIGKILL Redis; it comes back without its last second",
    ),
    "kill-master": Kind(("master",), 2, (0.1, 6), rest=8, says="SIGKILL a master; it comes back, perhaps replaced"),
    "pause-master": Kind(("master",), 2, (0.3, 8), rest=8, says="SIGSTOP a master; it wakes up, perhaps replaced"),
    "lose-master": Kind(
        ("master",),
        0.7,
        (0.0, 1),
        amount=(0.2, 1.5),
        rest=8,
        says="SIGKILL a master; it comes back without its last second",
    ),
    "kill-replica": Kind(("replica",), 1.5, (0.1, 4), rest=4, says="SIGKILL a replica of a master"),
    "pause-replica": Kind(("replica",), 1, (0.3, 6), rest=4, says="SIGSTOP a replica of a master"),
    "kill-sentinel": Kind(("sentinel",), 1.5, (0.1, 5), rest=3, says="SIGKILL a sentinel"),
    "pause-sentinel": Kind(("sentinel",), 1, (0.3, 6), rest=3, says="SIGSTOP a sentinel"),
    "move-slots": Kind(("slots",), 4, (0, 0), amount=(0, 1), rest=1, says="move a slot in use to another master"),
    "flush-redis": Kind(("redis",), 0.3, (0, 0), rest=8, says="FLUSHALL"),
    "delete-log": Kind(("log",), 2.5, (0, 0), amount=(0, 1), rest=0, says="DEL the log of a task that runs"),
    "latency": Kind(_LINKS, 3, (1, 8), amount=(0.01, 0.6), says="a way of 10 to 600 ms"),
    "drip": Kind(_LINKS, 2, (1, 6), amount=(300, 6000), says="a way of 300 to 6000 bytes a second"),
    "cut": Kind(_LINKS, 5, (0.1, 2), amount=(1, 6000), says="connections cut after so many bytes, wherever that is"),
    "half-open": Kind(_LINKS, 2, (3, 15), says="connections that are dead at one end only"),
    "black-hole": Kind(_LINKS, 3, (0.3, 9), says="nothing passes, nothing is refused"),
}


@dataclass(frozen=True, slots=True)
class Size:
    """How large a run is."""

    seconds: float
    servers: int = 3
    workers: int = 4
    #: How many tasks run at once, about.
    tasks: int = 16
    readers_per_task: int = 3
    #: Between two faults, on average.
    interval: float = 1.5
    #: Newest events that a log keeps: few enough that the longest tasks are trimmed while they run.
    max_events: int = 1500
    #: One of `TOPOLOGIES`.
    topology: str = "single"


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault. Times are seconds from the beginning."""

    number: int
    at: float
    kind: str
    target: str
    #: How long it lasts; 0 for what happens at once.
    seconds: float
    amount: float

    def __str__(self) -> str:
        lasts = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.at:7.2f} s  {self.kind:12} {self.target}{lasts}" + (f" ({self.amount:g})" if self.amount else "")


@dataclass(frozen=True, slots=True)
class ReaderPlan:
    """How one reader behaves."""

    number: int
    #: When it comes, after its task was started.
    after: float
    #: It leaves and comes back so often, about; None for as often as it is made to.
    drops_after: float | None
    #: Whether it closes at the terminal event, as a page does, or comes back and is told 204.
    closes: bool


@dataclass(frozen=True, slots=True)
class TaskPlan:
    number: int
    at: float
    type: str
    script: Script
    #: It is cancelled so long after it was started; None for never.
    cancel_after: float | None
    readers: tuple[ReaderPlan, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    size: Size
    strikes: tuple[Strike, ...]
    tasks: tuple[TaskPlan, ...]


#: A task that runs as long as a writer keeps what it stored cannot be written back whole once its log is deleted.
_SHORT_SECONDS, _LONG_SECONDS = 4.0, 22.0


def make_plan(seed: int, size: Size, kinds: Sequence[str] = tuple(KINDS)) -> Plan:
    """Draw a plan. Faults and load are drawn apart: a run with fewer kinds has the same tasks and readers."""
    strikes = _draw_strikes(Random(f"{seed} strikes"), size, kinds)
    return Plan(seed, size, strikes, _draw_tasks(Random(f"{seed} tasks"), seed, size))


def targets(size: Size) -> list[str]:
    """Everything that can be struck, by name."""
    servers = [f"server{n}" for n in range(1, size.servers + 1)]
    workers = [f"worker{n}" for n in range(1, size.workers + 1)]
    shape = TOPOLOGIES[size.topology]
    ways = shape.announced or (*servers, *workers)
    links = [f"link:{name}" for name in ways] + [f"link:readers-{name}" for name in servers]
    return [*servers, *workers, *shape.roles, "log", *links]


def kinds_of(topology: str) -> tuple[str, ...]:
    """The kinds of faults that find somebody to strike there."""
    everything = targets(Size(0, topology=topology))
    return tuple(name for name, kind in KINDS.items() if any(each.startswith(kind.strikes) for each in everything))


def _draw_strikes(random: Random, size: Size, kinds: Sequence[str]) -> tuple[Strike, ...]:
    names = sorted(set(kinds) & set(kinds_of(size.topology)))
    everything = targets(size)
    busy_until = dict.fromkeys(everything, 0.0)
    found: list[Strike] = []
    at = 2.0  # for the first tasks to run
    while names:
        at += random.uniform(0.3, 1.7) * size.interval
        if at >= size.seconds:
            break
        kind = random.choices(names, [KINDS[name].weight for name in names])[0]
        what = KINDS[kind]
        free = [name for name in everything if name.startswith(what.strikes) and busy_until[name] <= at]
        seconds, amount = random.uniform(*what.seconds), random.uniform(*what.amount)
        if free:
            target = random.choice(free)
            found.append(Strike(len(found) + 1, at, kind, target, round(seconds, 2), round(amount, 3)))
            busy_until[target] = at + seconds + what.rest
    return tuple(found)


def _draw_tasks(random: Random, seed: int, size: Size) -> tuple[TaskPlan, ...]:
    found: list[TaskPlan] = []
    at = 0.0
    pause = (_SHORT_SECONDS + _longest(size)) / 2 / size.tasks
    # The last ones begin while there are still faults to come.
    while at < max(1.0, size.seconds - _SHORT_SECONDS):
        found.append(
            _draw_task(random, seed, TaskPlan(len(found) + 1, at, "", _NOTHING, None, ()), longest=_longest(size))
        )
        readers = [_draw_reader(random, n, found[-1]) for n in range(1, size.readers_per_task + 1)]
        found[-1] = replace(found[-1], readers=tuple(readers))
        at += random.uniform(0.5, 1.5) * pause
    return tuple(found)


_ENDS: tuple[End, ...] = ("complete", "error", "cancelled")
_NOTHING = Script("", 0, 0, 0, (), "complete", 0)


def _longest(size: Size) -> float:
    """A short run has no time for long tasks."""
    return min(_LONG_SECONDS, max(_SHORT_SECONDS, size.seconds * 0.6))


def _draw_task(random: Random, seed: int, plan: TaskPlan, *, longest: float) -> TaskPlan:
    pause_ms = random.choice([5, 20, 20, 50, 100])
    seconds = random.uniform(_SHORT_SECONDS, longest)
    checkpoint_every = random.choice([0, 0, 7, 25, 60])
    fails = random.choice([0, 0, 0, 1, 2])
    if fails and not checkpoint_every:
        seconds = min(seconds, 2 * _SHORT_SECONDS)  # it begins anew each time
    events = max(20, int(seconds * 1000 / (pause_ms + 2)))
    ends: End = random.choices(_ENDS, [8, 1, 1])[0]
    script = Script(
        key=f"{seed}-{plan.number}",
        events=events,
        pause_ms=pause_ms,
        checkpoint_every=checkpoint_every,
        fail_at=tuple(sorted(random.randrange(events) for _ in range(fails))),
        ends=ends if ends != "cancelled" else "complete",
        # Now and then an event that no ring carries.
        ballast=random.choice([0, 20, 100, 1000]) if random.random() < 0.97 else 70_000,
    )
    if script.ballast > 10_000:
        script = replace(script, events=40, pause_ms=150, fail_at=())
    cancel_after = random.uniform(0, seconds) if ends == "cancelled" else None
    return replace(
        plan, type=random.choice(["chaos", "chaos", "chaos_in_thread"]), script=script, cancel_after=cancel_after
    )


def _draw_reader(random: Random, number: int, task: TaskPlan) -> ReaderPlan:
    lasts = task.script.events * task.script.pause_ms / 1000
    return ReaderPlan(
        number,
        after=0.0 if number == 1 else random.uniform(0, lasts * 1.2),
        drops_after=random.uniform(0.3, 4) if random.random() < 0.4 else None,
        closes=random.random() < 0.25,
    )

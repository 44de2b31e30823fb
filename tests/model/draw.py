"""Drawing random schedules, and shrinking one that fails to what it takes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from tests.model.schedule import OWNED, Schedule
from tests.model.wire import FAULTS

_MIN_ACTIONS, _MAX_ACTIONS = 12, 45

#: (weight, action); `{…}` are drawn.
_READING = [
    (10, "connect {client} {replica} {start}"),
    (5, "disconnect {client} {few}"),
    (2, "stall {client}"),
    (3, "unstall {client}"),
    (2, "bells {replica} drop"),
    (2, "bells {replica} hold"),
    (3, "bells {replica} pass"),
    (3, "ring {replica} {order}"),
    (3, "sweep {replica}"),
    (1, "reconnect {replica}"),
    (2, "fault {replica} {fault}"),
    (2, "unhold {replica}"),
]
_BREAKING = [
    (4, "time {short}"),
    (1, "outage {long}"),
    (1, "trim {few}"),
    (1, "xdel {many}"),
    (1, "del-log"),
    (1, "flushall"),
    (4, "backup"),
    (2, "failover {skew}"),
    (1, "restart"),
]
_OWNED = [
    (10, "claim {worker}"),
    (22, "emit {worker} {few}"),
    (2, "checkpoint {worker}"),
    (4, "finish {worker} {status}"),
    (2, "verify {worker}"),
    (2, "leave {worker}"),
    (1, "release {worker}"),
    (2, "kill {worker}"),
    (3, "partition {worker}"),
    (3, "heal {worker}"),
    (6, "fault {worker} {fault}"),
    (3, "arrive {worker}"),
    (3, "unhold {worker}"),
    (2, "time {long}"),
    (2, "cancel"),
    (1, "reap"),
    (2, "rerun"),
    (1, "delete"),
    (1, "fault S {fault}"),
    (1, "arrive S"),
    *_READING,
    *_BREAKING,
]
_SHARED = [
    (28, "publish {publisher} {few}"),
    (5, "foreign {few}"),
    (1, "close {publisher}"),
    (6, "fault {publisher} {fault}"),
    (3, "arrive {publisher}"),
    (3, "unhold {publisher}"),
    (1, "partition {publisher}"),
    (2, "heal {publisher}"),
    (1, "time {long}"),
    *_READING,
    *_BREAKING,
    (2, "failover {skew}"),
]
_WORDS: dict[str, Sequence[str]] = {
    "worker": ("A", "A", "B"),
    "publisher": ("P", "Q"),
    "client": ("C1", "C2", "C3"),
    "replica": ("R1", "R2"),
    "start": ("start", "start", "end", "id0", "id1", "id3", "id7"),
    "few": ("0", "1", "1", "2", "3", "5"),
    "many": ("0", "1", "2", "4", "7", "9"),
    "order": ("ordered", "reversed", "twice"),
    "fault": FAULTS,
    "short": ("50", "300", "1000"),
    "long": ("2000", "4000", "7000"),
    "skew": ("0", "0", "0", "-5000", "5000"),
    "status": ("ok", "fail"),
}


def draw(family: str, seed: int) -> Schedule:
    """A schedule of the family; the same for the same seed."""
    chooser = random.Random(f"{family} {seed}")
    weighted = _OWNED if family == OWNED else _SHARED
    opening = ["connect C1 R1 start", "claim A"] if family == OWNED else ["connect C1 R1 start"]
    count = chooser.randint(_MIN_ACTIONS, _MAX_ACTIONS)
    templates = chooser.choices([each for _, each in weighted], [weight for weight, _ in weighted], k=count)
    lines = [each.format(**{word: chooser.choice(values) for word, values in _WORDS.items()}) for each in templates]
    return (*(each for each in opening if chooser.random() < 0.8), *lines)


def shrink(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    """Leave out actions, more than one at a time first, as long as it still fails."""
    size = max(len(schedule) // 2, 1)
    while size:
        at = 0
        while at < len(schedule):
            shorter = schedule[:at] + schedule[at + size :]
            if fails(shorter):
                schedule = shorter
            else:
                at += size
        size = size // 2 if size > 1 or not _is_smaller(schedule, fails) else 1
    return schedule


def _is_smaller(schedule: Schedule, fails: Callable[[Schedule], bool]) -> bool:
    """Whether another round of single actions would help: the last one may have made room."""
    return any(fails(schedule[:at] + schedule[at + 1 :]) for at in range(len(schedule)))

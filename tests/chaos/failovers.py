"""Notices when another server becomes the master, and what it cannot have: written into the chronicle as it happens.

It asks the servers themselves, several times a second, for their role and how far they have come. A replica that was
promoted says up to which offset it has what its old master wrote; the last moment at which that master was seen no
further is when the loss begins. It ends when the old master has found out, for until then it takes what nobody will
have. Invariant: what it writes down is never less than what was lost; where it does not know, it is all. Imports
nothing of the product.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tests.chaos.chronicle import Chronicle, Incident
from tests.chaos.redis_node import RedisNode

_LOOK_SECONDS = 0.1
#: A frozen server does not answer, and the others must not wait for it.
_PATIENCE_SECONDS = 0.5
#: Older than any loss.
_SAMPLES = 600


@dataclass
class _Seen:
    """One server, when it answered last."""

    is_master: bool
    #: What it writes, or follows.
    history: str
    at: float


@dataclass
class FailoverWatch:
    """`slots_of` says which slots of a Cluster a server has; None for everything."""

    nodes: Sequence[RedisNode]
    chronicle: Chronicle
    clock: Callable[[], float]
    slots_of: Callable[[RedisNode], Awaitable[frozenset[int] | None]]
    _seen: dict[str, _Seen] = field(default_factory=dict[str, _Seen])
    #: When, and how far, by the history that a master writes.
    _progress: dict[str, deque[tuple[float, int]]] = field(default_factory=dict[str, deque[tuple[float, int]]])
    #: Which server writes a history.
    _writers: dict[str, str] = field(default_factory=dict[str, str])
    #: Losses that last, with the server that has to find out.
    _open: list[tuple[str, Incident]] = field(default_factory=list[tuple[str, Incident]])

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.gather(*(self._look(node) for node in self.nodes if node.is_up))
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self, node: RedisNode) -> None:
        asked_at = self.clock()
        try:
            said = read_info(await node.command("INFO", "replication", within=_PATIENCE_SECONDS))
            is_master, history, offset = (
                said["role"] == "master",
                said["master_replid"],
                int(said["master_repl_offset"]),
            )
        except (OSError, RuntimeError, KeyError):
            return
        before = self._seen.get(node.name)
        self._seen[node.name] = _Seen(is_master, history, asked_at)
        if is_master:
            self._writers[history] = node.name
            self._progress.setdefault(history, deque(maxlen=_SAMPLES)).append((asked_at, offset))
        if before and is_master and not before.is_master:
            await self._promoted(node, before, said["master_replid2"], int(said["second_repl_offset"]))
        elif before and before.is_master and not is_master:
            for loss in [loss for writer, loss in self._open if writer == node.name]:
                loss.lost_until = self.clock()
            self._open = [each for each in self._open if each[0] != node.name]

    async def _promoted(self, node: RedisNode, before: _Seen, history: str, offset: int) -> None:
        """`offset` is the first that it has not of this history."""
        # A master that was restarted writes another history: the promoted one has nothing of that.
        known = self._progress.get(history, ()) if history == before.history else ()
        had = [at for at, written in known if written < offset]
        slots: frozenset[int] | None = None
        with suppress(OSError, RuntimeError):
            slots = await self.slots_of(node)
        loss = self.chronicle.add_failover(node.name, before.at, lost_since=had[-1] if had else 0.0, slots=slots)
        self._open.append((self._writers.get(history, ""), loss))


def read_info(text: str) -> dict[str, str]:
    """What INFO says."""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

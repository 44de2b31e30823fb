"""When an event counts as stored: once Redis has it, once a replica has it too, or once it is on the disk.

Owns the command that waits for it and what its reply means. Invariant: the command goes over the same connection as the
writes it is to wait for, and behind them. Knows nothing of what was written. Source: WAIT, WAITAOF.

Theory of operation
-------------------
1. Redis counts what it hands to its replicas and its append-only file. For each connection it notes how far that was
   when the connection last wrote. WAIT and WAITAOF hold the connection until replicas, or the file, have got so far.
2. So the wait is for a connection's own writes. On another one it would be for nothing:

       A   XADD ... connection breaks before WAIT is answered
       B   "is it stored?" - "yes", without a write; WAIT - "1 replica" at once, although none has it

   Therefore a script that finds a writer's batch stored already writes a field of the record once more.
3. WAIT does not undo anything. What no replica has yet stands in the log and readers have seen it; its writer does not
   count it as stored, keeps it, and waits again. A failover that loses it is repaired as any other loss.
4. A master that was demoted refuses to wait. Its connection is given up; whoever was under way on it asks anew. One
   that cannot wait at all (no file, an old version, an ACL) has run what stands before: that is not safe, and stays so.
5. Whoever asked over HTTP is not held for ever (`WAITS`). Between two of its waits a failover may lose what the first
   try wrote. So each try is a call of its own, made anew, and only the answer of the try that was waited for counts:

       try 1   publish - "stored 7-4"; WAIT - "0 replicas"        the master dies, and 7-4 with it
       try 2   publish - "stored 9-0"; WAIT - "1 replica"         the publisher is told 9-0, never 7-4
6. In a Cluster each node has replicas and a file of its own. A wait goes to the node that ran the call, so whoever
   writes to two slots waits at both: of the one it says nothing for the other.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, cast

from server.streams.calls import Call, T
from server.streams.connections import AsyncClient, Command, execute, execute_together
from server.streams.errors import LogUnavailable, NotDurable

#: Of one wait. Below the patience of every connection, which takes a longer silence for the death of the server.
WAIT_MS: Final = 1000
#: Waits before whoever asked over HTTP is told that it is not safe yet: about the patience of a person, and below that
#: of proxies and clients, who would be told nothing.
WAITS: Final = 5
#: The code of a server that refuses to wait because another one has its place: there it can be asked anew.
_DEMOTED: Final = "READONLY"


class Durability(StrEnum):
    """What has to have an event before it counts as stored."""

    #: The memory of the master.
    FAST = "fast"
    #: The memory of a replica, too.
    REPLICATED = "replicated"
    #: The disk of the master: its append-only file, synced.
    FSYNC = "fsync"

    @property
    def wait(self) -> Command | None:
        """What to send behind writes; None if nothing is waited for."""
        if self is Durability.REPLICATED:
            return ("WAIT", 1, WAIT_MS)
        if self is Durability.FSYNC:
            return ("WAITAOF", 1, 0, WAIT_MS)
        return None

    def is_reached(self, reply: Any) -> bool:
        """Whether the reply to `wait` says that everything before it is safe."""
        if self is Durability.FSYNC:
            return isinstance(reply, list) and cast("list[Any]", reply)[:1] >= [1]
        return isinstance(reply, int) and reply >= 1

    @property
    def missing(self) -> str:
        """What is to be said while it is not reached."""
        if self is Durability.FSYNC:
            return "Redis has not synced its append-only file yet (REPRISE_DURABILITY=fsync). Look at its disk."
        return "No replica has confirmed them yet (REPRISE_DURABILITY=replicated). Look at the replicas."


async def run_durably(
    client: AsyncClient,
    build: Callable[[], Call[T]],
    durability: Durability,
    *,
    heard: Callable[[T], None] | None = None,
) -> T:
    """Run a script and return what its last reply means, once what it wrote is as safe as asked for.

    It is built and run again meanwhile: only for calls that take effect once, and write something each time. `heard`
    is told of each reply, also of those that are not safe; it raises where nothing was written, so that nothing is
    waited for.

    Raises `NotDurable` where that does not come about in time, or cannot: what was written may be lost in a failover.
    """
    wait = durability.wait
    if wait is None:
        raise ValueError("With `fast` there is nothing to wait for: use `connections.run`.")
    for _ in range(WAITS):
        call = build()
        raw, waited = await _run_and_wait(client, call, wait)
        reply = call.parse(raw)
        if heard:
            heard(reply)
        if _is_safe(waited, durability):
            return reply
    raise _not_safe(durability.missing)


async def execute_durably(client: AsyncClient, command: Command, durability: Durability) -> None:
    """The same for a command that writes each time it is sent, whether that changes anything or not."""
    wait = durability.wait
    for _ in range(WAITS if wait else 0):
        _, waited = await execute_together(client, command, wait or ())
        if _is_safe(waited, durability):
            return
    if wait is not None:
        raise _not_safe(durability.missing)
    await execute(client, *command)


def _is_safe(waited: Any, durability: Durability) -> bool:
    """Whether the wait behind a command that has run was reached. Raises where it cannot be."""
    if not isinstance(waited, LogUnavailable):
        return durability.is_reached(waited)
    if waited.code == _DEMOTED:
        raise waited
    raise _not_safe(str(waited))


def _not_safe(why: str) -> NotDurable:
    return NotDurable(f"What was written may be lost still. {why}")


async def _run_and_wait(client: AsyncClient, call: Call[Any], wait: Command) -> list[Any]:
    # Which connection the pool gives is not known, and a wait is for its own writes only: both go in one write.
    try:
        return await execute_together(client, ("EVALSHA", call.script.sha, *call.tail()), wait)
    except LogUnavailable as error:
        if error.code != "NOSCRIPT":
            raise
        return await execute_together(client, ("EVAL", call.script.text, *call.tail()), wait)

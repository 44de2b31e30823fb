"""The scripts as typed calls: keys, arguments and the meaning of each reply, with no I/O.

script      what a call is made of.
lifetimes   how long keys live, and how large logs grow.
writing     a task's writer: append, repair.
publishing  shared streams.
reading     one look at a stream.
streams     settings of a shared stream, its deletion, what there is to say about any.
leases      who may run a task.
tasks       the rest of a task's life.

A `Call` is built here and sent by `connections.run` or `run_sync`, so asyncio code, threads and tests share one
contract. The protocol they follow is docs/protocol.md; each .lua file states its KEYS, ARGV and replies.
"""

from server.streams.calls.leases import Claimed, Postponed, Renewal, claim, overdue, release, renew, retry
from server.streams.calls.lifetimes import CHECKS_PER_BUDGET, Expiry, Lifetimes
from server.streams.calls.publishing import publish
from server.streams.calls.reading import END_FIELDS, Snapshot, read, with_end
from server.streams.calls.script import Argument, Call, Reply, Script, T, joined, script
from server.streams.calls.streams import About, Configured, about, configure, enlist, erase
from server.streams.calls.tasks import Created, Ending, amend, create, delete, discard, expire, settle, start
from server.streams.calls.writing import Batch, WriterCalls

__all__ = [
    "CHECKS_PER_BUDGET",
    "END_FIELDS",
    "About",
    "Argument",
    "Batch",
    "Call",
    "Claimed",
    "Configured",
    "Created",
    "Ending",
    "Expiry",
    "Lifetimes",
    "Postponed",
    "Renewal",
    "Reply",
    "Script",
    "Snapshot",
    "T",
    "WriterCalls",
    "about",
    "amend",
    "claim",
    "configure",
    "create",
    "delete",
    "discard",
    "enlist",
    "erase",
    "expire",
    "joined",
    "overdue",
    "publish",
    "read",
    "release",
    "renew",
    "retry",
    "script",
    "settle",
    "start",
    "with_end",
]

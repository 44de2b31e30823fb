"""Reprise, the worker side: runs task functions and writes what they emit.

policy      what happens when a task fails: attempts, pauses, timeouts.
definition  `@task`: a function's name, input schema and arguments.
loading     modules of task functions, by name.
shapes      what the events with methods of their own hold.
context     what a task function is given: `ctx`.
invocation  calling a task function, async or in a thread, and stopping it.
endings     what the end of a function means for its task.
failures    how a function says that the task has failed.
renewal     leases, kept by a thread of their own; the theory of claims.
news        telling all readers how a task stands.
attempt     one run of one task, from its claim to its ack.
intake      what to do with a queue entry: run it, settle it, pass it on.
worker      fetching, heartbeats, take-over, draining.
health      `python -m workers.health`, for containers.
publishing  streams written by other programs: `open_stream`.
main        the process: connections and signals.
examples    the demo tasks.

Imports only `server.streams`; the server never imports this package, it meets workers in Redis.
"""

from workers.context import Context, Stopped, SyncContext
from workers.definition import task
from workers.failures import TaskError
from workers.policy import Backoff
from workers.publishing import (
    InvalidInput,
    LogUnavailable,
    OpenStream,
    OpenStreamSync,
    StreamClosed,
    TooLarge,
    open_stream,
    open_stream_sync,
)

__all__ = [
    "Backoff",
    "Context",
    "InvalidInput",
    "LogUnavailable",
    "OpenStream",
    "OpenStreamSync",
    "Stopped",
    "StreamClosed",
    "SyncContext",
    "TaskError",
    "TooLarge",
    "open_stream",
    "open_stream_sync",
    "task",
]

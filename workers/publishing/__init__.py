"""Writing streams from any program: a script, a Celery task, a coroutine. docs/publishing.md shows how.

options     what a stream is opened with, checked.
sharing     one connection for all streams that an event loop has open.
handle      what a handle to a stream promises, of either kind.
stream      `open_stream`, for coroutines.
background  a thread with an event loop, for programs without one.
inbox       events on their way from threads to that loop.
blocking    `open_stream_sync`, its twin for threads.

Such a stream has many writers and no lease: nothing here knows tasks. How batches are stored once is
`server.streams.shared_writer`.
"""

from server.streams.errors import InvalidInput, LogUnavailable, StreamClosed, TooLarge
from workers.publishing.blocking import OpenStreamSync, open_stream_sync
from workers.publishing.stream import OpenStream, open_stream

__all__ = [
    "InvalidInput",
    "LogUnavailable",
    "OpenStream",
    "OpenStreamSync",
    "StreamClosed",
    "TooLarge",
    "open_stream",
    "open_stream_sync",
]

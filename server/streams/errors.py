"""Errors of the log and of task records, named for whose fault they are.

Invariant: a Redis exception leaves `server.streams` only as one of these; callers never import `redis.exceptions`.
"""


class StreamsError(Exception):
    """Base of every error this package raises on purpose."""


class InvalidInput(StreamsError, ValueError):
    """The caller's: a name, type, id, cursor or text that breaks a rule. The message says which and how to mend it."""


class InvalidCursor(InvalidInput):
    """The caller's: a cursor that does not parse, or names a stream that the request does not carry."""


class TooLarge(InvalidInput):
    """The caller's: an event or input above its size limit."""


class Unknown(StreamsError, LookupError):
    """The caller's: no such task or stream."""


class Conflict(StreamsError):
    """The caller's: the state of the task or stream, or a reused idempotency key, forbids the request."""


class StreamClosed(Conflict):
    """The caller's: the stream has its terminal event, or the handle to it was closed. Nothing more can be appended."""


class Fenced(StreamsError):
    """The writer's: another generation has begun, or the record names another owner. Nothing more may be written."""


class LogUnavailable(StreamsError):
    """Redis's: it did not answer, or takes nothing for now. What was sent is *unknown*, not lost; asking again helps.

    `code` is Redis' own word for why it refused, such as OOM or READONLY; empty if it did not answer.
    `is_explained`: whether the message says what to mend; of silences only.
    """

    def __init__(self, message: str = "", *, code: str = "", is_explained: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.is_explained = is_explained


class NotStored(LogUnavailable):
    """Redis's: it refused for now, each time it was asked and before it did anything. Nothing was stored."""


class LogRefused(LogUnavailable):
    """A person's: Redis answered that it does not do this, however often it is asked. Nothing of it took effect.

    Whoever waits for Redis to come back must not wait for this; the message says what to mend.
    """


class NotDurable(LogUnavailable):
    """Redis's: what was sent took effect, but is not as durable as asked for, so a failover may lose it still.

    Asking again is safe, as after any `LogUnavailable`; it has been waited for already, so not at once.
    `task_id` names the task that was created by it, if one was.
    """

    task_id: str | None = None

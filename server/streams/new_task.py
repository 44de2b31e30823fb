"""What a task is created from: what its caller asked for, and what its type decides.

Invariant: the hash of a request changes with what was asked for and with nothing else, so a request that is repeated is
known again. Knows nothing of Redis.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from time import time
from typing import Any, Final

from server.streams.event import encode_json
from server.streams.registry import TaskType

#: Decided by a task's type, not by who asks for the task.
_POLICY: Final = frozenset({"max_attempts", "on_worker_lost", "on_disconnect"})


@dataclass(frozen=True, slots=True)
class NewTask:
    """What a task is created from; the input has been validated."""

    type: str
    input: dict[str, Any]
    title: str | None = None
    queue: str = "default"
    #: Whether that is the queue of its type, and not the caller's choice.
    has_types_queue: bool = False
    max_attempts: int = 3
    #: Whether workers may run it at once.
    execute: bool = True
    #: The rest of its type's policy that others than its worker have to know; see `TaskType`.
    on_worker_lost: str = "retry"
    on_disconnect: str = "continue"
    #: When it may begin: so long from now by Redis' clock, or not before a moment, ms since epoch. One of them at most.
    delay_ms: int = 0
    not_before_ms: int = 0
    #: While it has not ended, another task of its type with this key is this task.
    unique_key: str | None = None

    @classmethod
    def of(
        cls, task_type: TaskType, input: dict[str, Any], *, max_attempts: int, queue: str | None = None, **given: Any
    ) -> NewTask:
        """A task of this type, with its policy; `max_attempts` is for a type that does not say.

        `queue` is the caller's choice, if there is one.
        """
        return cls(
            task_type.name,
            input,
            queue=queue or task_type.queue,
            has_types_queue=queue is None,
            max_attempts=task_type.max_attempts or max_attempts,
            on_worker_lost=task_type.on_worker_lost,
            on_disconnect=task_type.on_disconnect,
            **given,
        )

    def values(self) -> dict[str, str]:
        """What its record begins with."""
        return {
            "type": self.type,
            "title": self.title or self.type,
            "input": encode_json(self.input, what="The input"),
            "queue": self.queue,
            "max_attempts": str(self.max_attempts),
            "on_worker_lost": self.on_worker_lost,
            "on_disconnect": self.on_disconnect,
            "queued": "1" if self.execute else "0",
        } | ({} if self.unique_key is None else {"unique_key": self.unique_key})

    def hash(self) -> str:
        """What tells one request from another: what its caller asked for.

        Not what its type decides: a worker that comes back with other defaults makes no other request of it.
        """
        asked = {name: value for name, value in self.values().items() if name not in _POLICY}
        if self.has_types_queue:
            del asked["queue"]
        if self.delay_ms or self.not_before_ms:
            asked["begin"] = f"{self.delay_ms} {self.not_before_ms}"
        return hashlib.sha256(encode_json(asked, what="The task").encode()).hexdigest()[:32]

    def delay_at_least_ms(self) -> int:
        """How long it waits at least from now."""
        return max(0, self.delay_ms, self.not_before_ms - int(time() * 1000))

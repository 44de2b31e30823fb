"""Every Redis key and channel, built in this one place.

Keys of one stream (or of one queue) share its hash tag, so scripts and MULTI stay in one Cluster slot. Each has an
owner, a lifetime and a line in docs/keys.md.
"""

from __future__ import annotations

import hashlib

from server.streams.errors import InvalidInput
from server.streams.names import task_of_stream, task_stream


class Keys:
    """Names of keys under one prefix."""

    def __init__(self, prefix: str = "reprise:") -> None:
        if "{" in prefix or "}" in prefix:
            raise InvalidInput(
                f"REPRISE_PREFIX {prefix!r} has a brace, which would break the hash tag of every key. Leave it out."
            )
        self.prefix = prefix
        self.tasks_index = f"{prefix}index:tasks"
        self.unfinished_index = f"{prefix}index:unfinished"
        self.dead_index = f"{prefix}index:dead"
        self.streams_index = f"{prefix}index:streams"
        self.types = f"{prefix}types"
        self.workers = f"{prefix}workers"

    def log(self, stream: str) -> str:
        return f"{self.prefix}{{{stream}}}:log"

    def bell(self, stream: str) -> str:
        return f"{self.prefix}{{{stream}}}:bell"

    def idempotency(self, stream: str, token: str) -> str:
        return f"{self.prefix}{{{stream}}}:idem:{token}"

    def record(self, task_id: str) -> str:
        return f"{self.prefix}{{{task_stream(task_id)}}}:task"

    def about(self, stream: str) -> str:
        """What is known of a stream apart from its log: a task's record, or the settings and the marker of another."""
        return f"{self.prefix}{{{stream}}}:{'task' if task_of_stream(stream) is not None else 'stream'}"

    def control(self, task_id: str) -> str:
        return f"{self.prefix}{{{task_stream(task_id)}}}:control"

    def ready(self, queue: str, task_type: str) -> str:
        return f"{self.prefix}{{queue.{queue}}}:ready:{task_type}"

    def unique(self, task_type: str, key: str) -> str:
        """Where it stands which task of a type has a unique key; hashed, for a key may be any text."""
        digest = hashlib.sha256(f"{task_type}\0{key}".encode()).hexdigest()[:32]
        return f"{self.prefix}{{unique.{digest}}}:holder"

    def delayed(self, queue: str) -> str:
        return f"{self.prefix}{{queue.{queue}}}:delayed"

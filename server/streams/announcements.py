"""What everybody may know: events on the shared streams `tasks` and `system`.

Announcing comes after the record changed and before the queue entry is acked, each with a token made of what it says;
so whoever repeats the last steps of a finished task repeats no announcement.
"""

from __future__ import annotations

import logging
from typing import Any

from server.streams.errors import StreamsError
from server.streams.event import Draft, encode_json
from server.streams.log import Log
from server.streams.names import SYSTEM, TASKS
from server.streams.records import TaskRecord

_log = logging.getLogger(__name__)


class Announcer:
    """Publishes news of tasks. A failed announcement is logged: it never fails the task it is about."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def info(self, message: str, **details: Any) -> None:
        """Tell readers of `system` something about the installation."""
        await self._publish(SYSTEM, "info", {"message": message, **details}, token=None)

    async def created(self, record: TaskRecord) -> None:
        await self._publish(SYSTEM, "task_created", _about(record), token=f"created.{record.id}")
        await self.updated(record)

    async def updated(self, record: TaskRecord, *, to_system: bool = False) -> bool:
        """Tell readers of `tasks` how the task stands, and those of `system` if its status changed.

        Returns whether they were told; telling them again is harmless.
        """
        about = _about(record)
        token = f"{record.id}.{record.generation}.{record.attempt}.{record.status}.{record.progress}"
        is_told = await self._publish(TASKS, "task_update", about, token=token)
        if to_system:
            kind = "task_completed" if record.status.is_ended else "task_updated"
            is_told = await self._publish(SYSTEM, kind, about, token=token) and is_told
        return is_told

    async def progressed(self, record: TaskRecord) -> None:
        """Tell readers of `tasks` of progress: never repeated by others, so without a token that is kept for a day."""
        await self._publish(TASKS, "task_update", _about(record), token=None)

    async def _publish(self, stream: str, event_type: str, data: dict[str, Any], *, token: str | None) -> bool:
        try:
            draft = Draft(event_type, encode_json(data, what=event_type))
            # The token need not outlive the events: said again after that, nobody sees both.
            await self._log.publish(stream, [draft], token=token, token_ms=self._log.retention_ms, may_be_lost=True)
        except StreamsError as error:
            _log.warning("Could not announce %s on %s: %s", event_type, stream, error)
            return False
        return True


def _about(record: TaskRecord) -> dict[str, Any]:
    return {
        "task_id": record.id,
        "type": record.type,
        "status": record.status.value,
        "progress": record.progress,
        "attempt": record.attempt,
    }

"""Where in Redis a task is, as docs/keys.md and the specification of Redis Cluster say. Imports nothing of the
product.
"""

from __future__ import annotations

from binascii import crc_hqx

SLOTS = 16_384
#: Keys that all tasks share: the queue, the streams that tell of tasks, the index of those that have not ended.
SHARED_KEYS = ("{queue.default}", "{tasks}", "{system}", "reprise:index:unfinished")


def log_key(task_id: str) -> str:
    return f"reprise:{{tasks.{task_id}}}:log"


def slot_of(key: str) -> int:
    _, brace, rest = key.partition("{")
    tag, closing, _ = rest.partition("}")
    return crc_hqx((tag if brace and closing and tag else key).encode(), 0) % SLOTS

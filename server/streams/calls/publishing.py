"""Appending to shared streams, where the script hands the ids out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from server.streams.calls.lifetimes import CHECKS_PER_BUDGET, Lifetimes
from server.streams.calls.script import Call, Reply, parse_reply, script
from server.streams.event import Draft
from server.streams.ids import EventId
from server.streams.keys import Keys
from server.streams.marks import Marked


def publish(
    keys: Keys,
    stream: str,
    drafts: Sequence[Draft],
    *,
    token: str,
    token_ms: int,
    entropy: int,
    known: EventId | None,
    lifetimes: Lifetimes,
    max_events: int,
    max_bytes: int = 0,
    is_terminal: bool = False,
    number: int | None = None,
) -> Call[Reply]:
    """Append to a shared stream, once per token. `entropy` is random, 0–999; `known` the publisher's last id.

    `max_events` and `max_bytes`: how much the log keeps, 0 for no limit.

    With `number` once per token and number: a writer has one token and counts its batches, of which it sends one at a
    time, so Redis need not remember each.
    Outcomes: stored and repeated with the first id; conflict (token used with another body); closed and deleted with
    the last one; exhausted.
    """
    events = [text for each in drafts for text in (each.type, each.data)]
    marks = [str(text) for at, each in enumerate(drafts) if isinstance(each, Marked) for text in (at, *each.mark)]
    body = "" if number is not None else _hash([*events, str(is_terminal)]) + (_hash(marks) if marks else "")
    # Several write a shared log and none knows what the others wrote, so whether to measure it is left to chance: the
    # more likely, the larger the batch; on average as often as the budget allows.
    size = sum(len(each.data) for each in drafts)
    is_due = entropy * max_bytes < size * CHECKS_PER_BUDGET * 1000
    args = (
        keys.bell(stream), body, entropy, str(known) if known else "", lifetimes.retention_ms, token_ms, max_events,
        len(drafts), *events, int(is_terminal), "" if number is None else number, max_bytes if is_due else 0,
        lifetimes.live_ms, *marks,
    )  # fmt: skip
    names = (keys.log(stream), keys.idempotency(stream, token), keys.about(stream))
    return Call(script("publish"), names, args, parse_reply)


def _hash(texts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:32]

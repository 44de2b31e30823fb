"""Consecutive frames as several subscribers get them: all of them, those of some types, or with ids of their own. Pure.

Invariant: what is made of the frames is made once for all subscribers that want it so; only the ids of a response that
carries several streams are each subscriber's own. Whoever filters is told whether the last frame is among what is left:
if not, it stands behind the last id that its reader has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from server.streams.event import LOGGED_TYPES, check_type

#: Ways to filter one block that are kept. Readers share a page's scripts, and so a few filters; a crowd where each has
#: one of its own must not fill the memory with copies.
_MOST_KEPT: Final = 8
_ID: Final = b"id: "
_EVENT: Final = b"\nevent: "

Types = frozenset[bytes]


def shown_types(types: Iterable[str]) -> Types:
    """A filter by type. Reprise's own types pass it always. Raises `InvalidInput` for what no event can have."""
    return frozenset(check_type(each).encode() for each in (*types, *LOGGED_TYPES))


class Picked:
    """Those frames that pass a filter."""

    __slots__ = ("_body", "_parts", "frames", "is_to_the_end")

    def __init__(self, frames: list[bytes], *, is_to_the_end: bool) -> None:
        self.frames = frames
        #: Whether the last frame passed.
        self.is_to_the_end = is_to_the_end
        self._body: bytes | None = None
        self._parts: list[tuple[bytes, bytes]] | None = None

    @property
    def body(self) -> bytes:
        """The frames as one; joined once."""
        if self._body is None:
            self._body = b"".join(self.frames)
        return self._body

    def named(self, stream: bytes, others: bytes) -> bytes:
        """The frames as one, each id with the stream's name before it and the positions of `others` behind it."""
        if self._parts is None:
            self._parts = [_without_id(frame) for frame in self.frames]
        before = _ID + stream + b":"
        return b"".join([part for own, rest in self._parts for part in (before, own, others, rest)])


@dataclass(slots=True)
class Framed:
    """Base of what holds frames."""

    frames: list[bytes] = field(default_factory=list[bytes], kw_only=True)
    _body: bytes | None = field(default=None, init=False, repr=False, compare=False)
    _picked: dict[tuple[Types | None, bool], Picked] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def body(self) -> bytes:
        """The frames as one; joined once. What most subscribers get, so nothing else is made for it."""
        if self._body is None:
            self._body = b"".join(self.frames)
        return self._body

    def picked(self, types: Types | None, *, ends: bool) -> Picked:
        """The frames of these types. If the stream `ends` with the last one, that passes whatever its type."""
        if self._picked is None:
            self._picked = {}
        key = types, ends
        found = self._picked.get(key)
        if found is None:
            found = _pick(self.frames, types, ends=ends)
            if len(self._picked) < _MOST_KEPT:
                self._picked[key] = found
        return found


def _pick(frames: list[bytes], types: Types | None, *, ends: bool) -> Picked:
    if types is None or not frames:
        return Picked(frames, is_to_the_end=True)
    shown = [frame for frame in frames if _type_of(frame) in types]
    is_last = _type_of(frames[-1]) in types
    if ends and not is_last:
        shown.append(frames[-1])
    return Picked(shown, is_to_the_end=ends or is_last)


def _type_of(frame: bytes) -> bytes:
    begin = frame.index(b"\n") + len(_EVENT)
    return frame[begin : frame.index(b"\n", begin)]


def _without_id(frame: bytes) -> tuple[bytes, bytes]:
    """The id as it stands, and everything behind it."""
    end = frame.index(b"\n")
    return frame[len(_ID) : end], frame[end:]

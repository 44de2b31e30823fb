"""Whether every subscriber got every event exactly once and in order. Pure.

Theory of operation
-------------------
1. All subscribers of a stream must get the same bytes, but for blocks that carry no event. So the stream's blocks are
   kept once, in a `Transcript`, and a `Reader` is a position in it.
2. The first subscriber to get a block appends it. Only then is it parsed: its number must be the last one plus 1. For
   every other subscriber the bytes are compared with what stands at its position, which is one `memcmp` a read.
3. Doubled, lost or reordered events are therefore bytes that differ from the transcript, or a number out of turn:

       transcript  …|4|5|6|          a reader at 6 that gets |5| or |7| differs
       its end                       the reader that would append |5| or |8| after 6 has the wrong number

4. Comments, `retry:`, `position` and heartbeats differ from one subscriber to the next and carry nothing: they are
   skipped. So whole blocks that do not match in one piece are judged one by one. Bytes of an incomplete block wait in
   `_held` for the rest, even if they match so far: a `position` begins like the event that follows it. A reader's
   position is therefore always between two blocks.
5. Whatever else is no numbered event must be an `attempt` or `complete`, which the product writes around the events
   of a task. `gap`, `stalled` and `error` are failures here: nothing is trimmed or lost in a benchmark.
6. A dropped connection forgets the incomplete block, as a browser does. The next one begins at the last whole block.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from typing import Final

from benchmarks.payload import read_block

_ID: Final = re.compile(rb"(?:^|\n)id: ?([^\r\n]*)")
_EVENT: Final = re.compile(rb"(?:^|\n)event: ?([^\r\n]*)")
#: Comments and times to reconnect, on lines of their own.
_SAID_ASIDE: Final = re.compile(rb"(?:(?::|retry:)[^\n]*\n|\r?\n)+")
_SHOWN_BYTES: Final = 120

#: They move a cursor or keep a connection alive, and carry no event.
_CARRIES_NOTHING: Final = frozenset({b"position", b"heartbeat", b"ping"})
#: In the log of a task, before and after what it emits.
_AROUND_EVENTS: Final = frozenset({b"attempt", b"complete"})


class Broken(Exception):
    """A subscriber did not get every event exactly once and in order. The text names stream, subscriber and event."""


class Transcript:
    """The blocks of one stream, in order, as the first subscriber to get each one got it."""

    __slots__ = ("block_end", "ends", "events", "first", "goal", "stamps", "stream", "text")

    def __init__(self, stream: str, *, events: int, first: int = 0, line_end: bytes = b"\n") -> None:
        self.stream = stream
        #: How many events will be published, and the number of the first.
        self.events = events
        self.first = first
        self.block_end = line_end * 2
        self.text = bytearray()
        #: Where each event ends in the text, and when it was written.
        self.ends: list[int] = []
        self.stamps: list[int] = []
        #: Where a reader has everything; beyond every position until the last event is here.
        self.goal = sys.maxsize if events else 0

    def append(self, block: bytes, *, subscriber: str) -> None:
        """Take a block that nobody had before. Raises `Broken` if it is not the next one."""
        found = read_block(block)
        if found is None:
            self._check_control(block, subscriber)
            self.text += block
            return
        number, stamp = found
        expected = self.first + len(self.ends)
        if number != expected:
            raise Broken(self.verdict(subscriber, expected=expected, block=block))
        if len(self.ends) == self.events:
            raise Broken(
                f"Stream {self.stream}, {subscriber}: got event {number} after all {self.events} that were published."
            )
        self.text += block
        self.ends.append(len(self.text))
        self.stamps.append(stamp)
        if len(self.ends) == self.events:
            self.goal = len(self.text)

    def count_at(self, position: int) -> int:
        """How many events end at or before a position."""
        return bisect_right(self.ends, position)

    def verdict(self, subscriber: str, *, expected: int, block: bytes) -> str:
        """The sentence about a block that is not the expected event."""
        found = read_block(block)
        shown = bytes(block[:_SHOWN_BYTES])
        if found is None:
            got, kind = repr(shown), "something that is not an event came instead"
        elif found[0] == expected:
            got, kind = f"event {found[0]} with other bytes, {shown!r}", "the event differs between subscribers"
        else:
            kind = "events were lost" if found[0] > expected else "an event came twice or too late"
            got = f"event {found[0]}"
        return f"Stream {self.stream}, {subscriber}: expected event {expected}, got {got}: {kind}."

    def _check_control(self, block: bytes, subscriber: str) -> None:
        named = _EVENT.search(block)
        if named is None or named[1] not in _AROUND_EVENTS:
            expected = self.first + len(self.ends)
            raise Broken(self.verdict(subscriber, expected=expected, block=block))


class Reader:
    """One subscriber's place in a transcript."""

    __slots__ = ("_held", "_position_id", "name", "position", "transcript")

    def __init__(self, name: str, transcript: Transcript) -> None:
        self.name = name
        self.transcript = transcript
        self.position = 0
        self._held = b""
        self._position_id = b""

    @property
    def has_all(self) -> bool:
        return self.position >= self.transcript.goal

    @property
    def count(self) -> int:
        """How many events it has got."""
        return self.transcript.count_at(self.position)

    def take(self, piece: bytes) -> None:
        """Take the next bytes of the body. Raises `Broken`."""
        block_end = self.transcript.block_end
        blocks = self._held + piece if self._held else piece
        if blocks.endswith(block_end):
            self._held = b""
        else:
            cut = blocks.rfind(block_end)
            cut = cut + len(block_end) if cut >= 0 else 0
            blocks, self._held = blocks[:cut], blocks[cut:]
        if self.transcript.text.startswith(blocks, self.position):
            self.position += len(blocks)
        else:
            self._take_each(blocks)

    def rewind(self) -> None:
        """The connection is gone: forget the incomplete block."""
        self._held = b""

    def last_event_id(self) -> bytes:
        """What an EventSource would send as Last-Event-ID; empty before the first id."""
        text, end = self.transcript.text, self.transcript.block_end
        stop = self.position
        while stop > 0:
            start = text.rfind(end, 0, stop - len(end))
            start = start + len(end) if start >= 0 else 0
            if found := _ID.search(text[start:stop]):
                return bytes(found[1])
            stop = start
        return self._position_id

    def _take_each(self, blocks: bytes) -> None:
        transcript = self.transcript
        text, block_end = transcript.text, transcript.block_end
        start = len(text) - self.position
        if start < len(blocks) and blocks.startswith(text[self.position :]):
            self.position = len(text)  # all that is known, and more
        else:
            start = 0
        while start < len(blocks):
            end = blocks.index(block_end, start) + len(block_end)
            block = blocks[start:end]
            start = end
            if self._carries_nothing(block):
                continue
            if self.position == len(text):
                transcript.append(block, subscriber=self.name)
            elif not text.startswith(block, self.position):
                expected = transcript.first + self.count
                raise Broken(transcript.verdict(self.name, expected=expected, block=block))
            self.position += len(block)

    def _carries_nothing(self, block: bytes) -> bool:
        if _SAID_ASIDE.fullmatch(block):
            return True
        named = _EVENT.search(block)
        if named is None or named[1] not in _CARRIES_NOTHING:
            return False
        if found := _ID.search(block):
            self._position_id = found[1]
        return True

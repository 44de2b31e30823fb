"""What one connection listens to: the channels that are wanted, what Redis was asked for, and what it has confirmed.

Pure: commands go out and answers come in through its owner.

Theory of operation
-------------------
1. A change only marks its channel as *due*. When commands are taken, each due channel becomes the one command that
   its present state needs. So leaving cannot overtake coming back, coming and going at once costs nothing, and what is
   due is bounded by the channels there are, however long Redis takes nothing.
2. Redis answers each command once and in order; what was taken stands in line until then. An answer is for the head
   of that line, so it settles the very watch it was asked for, and no newer one of the same channel.

       watch a      taken  SSUBSCRIBE a    ─────►
       unwatch a    taken  SUNSUBSCRIBE a  ─────►  ◄───── ssubscribe a   confirms the first watch, which is gone
       watch a      taken  SSUBSCRIBE a    ─────►
                                                   ◄───── sunsubscribe a, ssubscribe a: the second one

3. `home` is a channel of our own. A new connection asks for everything again and for home last, so its confirmation
   stands for all the others. It is asked for again to see whether the connection still answers.
4. A channel that Redis refuses stays wanted, and is asked for again with home. An answer that fits nothing in line, or
   a subscription that Redis ended by itself, ends the connection: what it listens to is no longer known.
5. In a Cluster a node ends the subscriptions of a slot that leaves it, and refuses new ones with MOVED. That is told to
   the owner, who asks the other node. Home goes to another channel of this node, with a new connection.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any, Final, cast

from server.streams.topology.slots import slot_of

_log = logging.getLogger(__name__)

#: Called with the payload of each ring.
Listener = Callable[[bytes], None]

_SUBSCRIBE: Final = b"SSUBSCRIBE"
_UNSUBSCRIBE: Final = b"SUNSUBSCRIBE"


class Watch:
    """One channel from `want` to `leave`."""

    __slots__ = ("is_confirmed", "listener", "on_settled")

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        #: Whether Redis rings on it, as far as this connection knows.
        self.is_confirmed = False
        #: Called once, when there is nothing more to wait for: confirmed, refused, left, or the connection is lost.
        self.on_settled: list[Callable[[], None]] = []

    def settle(self) -> None:
        waiting, self.on_settled = self.on_settled, []
        for each in waiting:
            each()


class Watches:
    """The channels of one connection, in whatever state that is. Belongs to one event loop."""

    def __init__(self, home: bytes, *, on_moved: Callable[[bytes], None] | None = None) -> None:
        self._home = home
        self._on_moved = on_moved
        self._wanted: dict[bytes, Watch] = {home: Watch(_ignore)}
        #: In the order of the first change; each channel once.
        self._due: dict[bytes, None] = {}
        #: Channels that Redis listens to for us, once it has read what was taken.
        self._asked: set[bytes] = set()
        #: What was taken and not answered yet, oldest first. Without a watch it was to leave.
        self._line: deque[tuple[bytes, Watch | None]] = deque()
        self._refused: set[bytes] = set()

    def __len__(self) -> int:
        """How many channels are wanted, home not counted."""
        return len(self._wanted) - 1

    @property
    def is_due(self) -> bool:
        """Whether there is something to take."""
        return bool(self._due)

    @property
    def has_refused(self) -> bool:
        """Whether Redis refused a channel that is wanted."""
        return bool(self._refused)

    def want(self, channel: bytes, listener: Listener) -> Watch:
        """Listen to a channel from now on. One that is listened to already gets another listener."""
        watch = self._wanted.get(channel)
        if watch is None:
            watch = self._wanted[channel] = Watch(listener)
            self._due[channel] = None
        else:
            watch.listener = listener
            if channel in self._refused:
                self._due[channel] = None
        return watch

    def leave(self, channel: bytes) -> None:
        """Listen to it no more."""
        watch = self._wanted.pop(channel, None)
        if watch is not None:
            self._due[channel] = None
            self._refused.discard(channel)
            watch.settle()

    def ring(self, channel: bytes, payload: bytes) -> None:
        """Hand a payload to the channel's listener, if it is still wanted."""
        watch = self._wanted.get(channel)
        if watch is None:
            return
        try:
            watch.listener(payload)
        except Exception:  # noqa: BLE001 - a supervised step: a bug in one listener must not silence the others
            _log.exception("The listener of %r failed", channel)

    # For the connection.

    def begin(self, home: bytes | None = None) -> None:
        """A new connection stands, on which nothing was asked for yet; with another home, if it is given."""
        self.end()
        if home is not None and home != self._home:
            self._wanted[home] = self._wanted.pop(self._home)
            self._home = home
        self._due = dict.fromkeys(self._wanted)
        self.prove()

    def prove(self) -> None:
        """Have home asked for after all that is due; and what was refused, for it may have been permitted since."""
        self._due.update(dict.fromkeys(self._refused))
        self._due.pop(self._home, None)
        self._due[self._home] = None

    def take(self, limit: int) -> list[tuple[bytes, bytes]]:
        """Commands to send now, in this order, for up to `limit` channels."""
        commands: list[tuple[bytes, bytes]] = []
        for channel in list(islice(self._due, limit)):
            del self._due[channel]
            watch = self._wanted.get(channel)
            if watch is not None:
                self._asked.add(channel)
                commands.append((_SUBSCRIBE, channel))
            elif channel in self._asked:
                self._asked.remove(channel)
                commands.append((_UNSUBSCRIBE, channel))
            else:
                continue
            self._line.append((channel, watch))
        return commands

    def answer(self, reply: Any) -> bool:
        """Take what Redis sent beside rings; True if it confirmed home. Raises `OSError` for what fits nothing."""
        match reply:
            case [b"ssubscribe", channel, _]:
                return self._confirm(channel)
            case [b"sunsubscribe", channel, _]:
                if self._line and self._line[0] == (channel, None):
                    self._line.popleft()
                elif channel == self._home or not self._is_moved(channel):
                    raise ConnectionAbortedError(f"Redis ended the subscription of {_named(channel)} by itself.")
            case Exception() if self._line:
                self._refuse(*self._line.popleft(), reason=str(reply))
            case list():
                _log.debug("Redis sent a push of no use here: %.200r", cast("object", reply))
            case _:
                raise ConnectionAbortedError(f"Redis sent what was not asked for: {reply!r:.200}.")
        return False

    def end(self) -> None:
        """There is no connection: nothing is listened to, and nothing is worth waiting for."""
        self._due.clear()
        self._asked.clear()
        self._line.clear()
        self._refused.clear()
        for watch in list(self._wanted.values()):
            watch.is_confirmed = False
            watch.settle()

    def _confirm(self, channel: bytes) -> bool:
        asked, watch = self._line.popleft() if self._line else (None, None)
        if asked != channel or watch is None:
            raise ConnectionAbortedError(f"Redis subscribed {_named(channel)}, which was not asked for.")
        watch.is_confirmed = True
        self._refused.discard(channel)
        watch.settle()
        return channel == self._home

    def _is_moved(self, channel: bytes) -> bool:
        """Tell of a channel that this node has no more; False where there is no other node."""
        if self._on_moved is None:
            return False
        self._asked.discard(channel)
        watch = self._wanted.get(channel)
        if watch is not None:
            watch.is_confirmed = False
            watch.settle()
            self._on_moved(channel)
        return True

    def _refuse(self, channel: bytes, watch: Watch | None, *, reason: str) -> None:
        if channel == self._home:
            raise ConnectionAbortedError(f"Redis refused {channel.decode()!r}: {reason}")
        if reason.startswith("MOVED ") and self._on_moved is not None:
            if int(reason.split()[1]) != slot_of(channel):
                raise ConnectionAbortedError(f"Redis refused what was not asked for: {reason}")
            self._is_moved(channel)
            return
        if watch is None or self._wanted.get(channel) is not watch:
            return
        if not self._refused:
            _log.warning("Redis refuses to tell of new events on %r, which come late: %s", channel.decode(), reason)
        self._refused.add(channel)
        watch.settle()


def _named(channel: bytes) -> str:
    return repr(channel.decode(errors="replace"))


def _ignore(payload: bytes) -> None:
    """Nobody rings at home."""

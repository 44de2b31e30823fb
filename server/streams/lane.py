"""Group commit: the appends of all writers of a process, over one connection.

Owns when a round trip begins and what goes into it. Invariant: a writer has one call under way at most, and hears of it
once: the reply, or an error that says "unknown" or "refused". The lane sends nothing again, but for a script that Redis
did not know and so did not run. It knows nothing of what calls mean.

Theory of operation
-------------------
1. A writer that has something to send enlists and is asked for its call right before the lane sends: so a batch holds
   whatever was emitted until then, and the lease was looked at just then.
2. One round trip is under way at a time. What enlists meanwhile goes in the next one: under load a trip carries many
   calls and every call many events, and the cost of a trip is shared.
3. An idle lane sends at once: in the next turn of the event loop, with all that this turn emits. A busy one begins a
   trip a millisecond at most. A thousand writers that emit now and then would otherwise make a trip for each event, and
   a trip costs Redis and the worker more than the append in it. `delay_seconds` waits longer, for fewer appends; who
   waits for his events to be stored hurries everybody.
4. A trip is bounded in bytes, so that the replies to the first call do not wait for the last of thousands. Writers come
   in the order in which they enlisted.
5. With the connection everything under way on it is lost: each writer hears "unknown" and asks again by itself. Writers
   that were not asked for their call yet only wait until the lane is connected again.
6. A lane is one connection to one node. With several nodes each has its lane, and a writer enlists with its stream's
   (`lanes`). What this node refuses because the stream is elsewhere did not run, and goes on in the lane of that one.
7. Where more than the master's memory is asked for (`durability`), a trip ends with a wait for it, and nobody hears an
   answer before that is reached: it is waited for again, and nothing else is sent meanwhile. Only whose call was
   refused hears so at once: it did nothing, and what is done elsewhere, or never, need not wait for a replica of this
   node. If the connection breaks first everything of the trip is unknown, whatever came of it already; so it is if that
   server can wait for nothing.
8. A Redis that refuses (memory or disk full, a master that was demoted) refuses everybody. The lane says so once, and
   once more when it is over; each writer tries again by itself.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any, Final, Protocol

from server.streams.bulk import Done, Redirected, ScriptMissing
from server.streams.calls import Call
from server.streams.connections import Command
from server.streams.durability import Durability
from server.streams.errors import LogRefused, LogUnavailable
from server.streams.jitter import jitter

_log = logging.getLogger(__name__)

#: No trip begins sooner after the one before.
PACE_SECONDS: Final = 0.001
#: Some thousand events of the usual size, and less than 10 ms of Redis.
_TRIP_BYTES: Final = 256 * 1024
#: Above this, over all writers, `emit` waits for what its own writer has unsent: a bound for the process.
MAX_UNSENT_BYTES: Final = 64 << 20
_BACKOFF_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)


class Source(Protocol):
    """A writer, as the lane sees it."""

    def next_call(self) -> Call[Any] | None:
        """What to send, which is then sent at once; None if there is nothing any more."""
        ...

    def heard(self, answer: Any) -> None:
        """What the reply to that call means, as its `parse` says."""
        ...

    def failed(self, error: LogUnavailable) -> None:
        """Redis refused that call, or its fate is unknown. The log has a line about it, unless it is a `LogRefused`."""
        ...

    def broke(self, error: Exception) -> None:
        """One of the above, or the parsing of the reply, raised what it must not."""
        ...


class Connection(Protocol):
    """The part of `BulkConnection` that a lane needs."""

    @property
    def is_lost(self) -> bool: ...
    def add(self, command: Command) -> int: ...
    def go(self, done: Done) -> None: ...
    async def aclose(self) -> None: ...


class Way(Enum):
    """Why a call is sent to this node."""

    #: The map of slots says that it has the stream, or there is no other.
    OWN = 0
    #: Another one said so.
    MOVED = 1
    #: Another one said so of this stream, while its slot is on its way.
    ASKING = 2


def _nowhere(source: Source, call: Call[Any], refusal: Redirected) -> bool:
    """There is one server: it has no business sending anybody elsewhere."""
    return False


class Lane:
    """Belongs to one event loop. Nothing is dialled before something is to be sent; `aclose` is the end."""

    def __init__(
        self,
        dial: Callable[[], Awaitable[Connection]],
        *,
        delay_seconds: float = 0.0,
        durability: Durability = Durability.FAST,
        on_redirect: Callable[[Source, Call[Any], Redirected], bool] = _nowhere,
    ) -> None:
        """`on_redirect` sees to a call that another node has to run, and returns whether it did."""
        self._loop = asyncio.get_running_loop()
        self._dial = dial
        self._delay_seconds = delay_seconds
        self._waiting: deque[Source] = deque()
        #: Since when the first of them waits.
        self._waiting_since = 0.0
        self._is_urgent = False
        self._on_redirect = on_redirect
        #: None for what goes before a call and is answered by itself: ASKING.
        self._under_way: list[tuple[Source, Call[Any], Way] | None] = []
        #: Calls that Redis did not run because it did not know their script, and the scripts to send whole; and calls
        #: that another node did not run.
        self._again: list[tuple[Source, Call[Any], Way]] = []
        self._unknown_scripts: set[str] = set()
        self._connection: Connection | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._next_trip: asyncio.Handle | None = None
        self._next_trip_at = math.inf
        self._last_trip_at = -math.inf
        self._is_closed = False
        self._durability = durability
        self._wait = durability.wait
        #: Whether the connection stands and can wait for nothing.
        self._is_useless = False
        #: Why nothing is stored at the moment, as it was said.
        self.trouble = ""
        #: Redis' words for why, as far as they were said since it began.
        self._said: set[str] = set()
        #: Counted by the writers: what they hold and do not know to be stored.
        self.unsent_bytes = 0

    def enlist(self, source: Source, *, hurry: bool = False) -> None:
        """Have a writer asked for its call in the next trip. It enlists once, and again after it has heard."""
        if not self._waiting:
            self._waiting_since = self._loop.time()
        self._waiting.append(source)
        self._plan(hurry=hurry)

    def ask(self, source: Source, call: Call[Any], way: Way) -> None:
        """Have a call run that another node refused to run."""
        self._again.append((source, call, way))
        self._plan(hurry=True)

    def withdraw(self) -> list[Source]:
        """Forget who waits, and return them: their streams are elsewhere by now. Calls under way are answered here."""
        waiting, self._waiting = self._waiting, deque()
        return list(waiting)

    def hurry(self) -> None:
        """Somebody waits until his events are stored: begin the next trip as soon as can be."""
        self._plan(hurry=True)

    async def aclose(self) -> None:
        """Send nothing more, and close the connection. What is under way is unknown."""
        self._is_closed = True
        if self._next_trip:
            self._next_trip.cancel()
        if self._dialling:
            self._dialling.cancel()
            await asyncio.gather(self._dialling, return_exceptions=True)
        if self._connection:
            await self._connection.aclose()

    def _plan(self, *, hurry: bool) -> None:
        self._is_urgent = self._is_urgent or hurry
        if self._under_way or self._dialling or self._is_closed or not (self._waiting or self._again):
            return  # the end of what is under way plans the next trip
        if self._next_trip is not None and not hurry:
            return  # nobody who comes later is due sooner
        now = self._loop.time()
        at = now
        if not self._is_urgent:
            at = max(self._waiting_since + self._delay_seconds, self._last_trip_at + PACE_SECONDS)
        if self._next_trip is not None:
            if at >= self._next_trip_at:
                return
            self._next_trip.cancel()
        self._next_trip_at = at
        self._next_trip = self._loop.call_at(at, self._begin) if at > now else self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._next_trip = None
        connection = self._connection
        if connection is None or connection.is_lost or self._is_useless:
            self._dialling = asyncio.create_task(self._connect(), name="lane connects")
            return
        again, self._again = self._again, []
        for source, call, way in again:
            self._put(connection, source, call, way)
        size = 0
        while self._waiting and size < _TRIP_BYTES:
            source = self._waiting.popleft()
            try:
                call = source.next_call()
                if call is not None:
                    size += self._put(connection, source, call, Way.OWN)
            except Exception as error:  # noqa: BLE001 - one writer's step: the others go on
                source.broke(error)
        self._is_urgent = self._is_urgent and bool(self._waiting)
        if self._under_way:
            self._last_trip_at = self._loop.time()
            if self._wait is not None:
                connection.add(self._wait)
                connection.go(self._end_if_safe)
            else:
                connection.go(self._end)

    def _put(self, connection: Connection, source: Source, call: Call[Any], way: Way) -> int:
        script = call.script
        if way is Way.ASKING:
            connection.add(("ASKING",))
            self._under_way.append(None)
        if script.sha in self._unknown_scripts:
            size = connection.add(("EVAL", script.text, *call.tail()))
            self._unknown_scripts.remove(script.sha)  # what follows in this trip finds it known
        else:
            size = connection.add(("EVALSHA", script.sha, *call.tail()))
        self._under_way.append((source, call, way))
        return size

    def _end_if_safe(self, replies: list[Any]) -> None:
        """The end of a trip with a wait in it, unless that has to be made again."""
        *answers, waited = replies
        connection = self._connection
        if self._durability.is_reached(waited) or not self._is_anything_done(answers):
            self._end(answers)
        elif connection is None or isinstance(waited, LogUnavailable):
            # Some of it may be in the log, and safe nowhere else: as good as never answered.
            self._is_useless = True
            unknown = LogUnavailable(f"Whether it is safe is unknown. {waited}")
            self._end([unknown] * len(answers))
        else:
            self._say(self._durability.missing)
            done = self._tell_who_was_refused(answers)
            connection.add(self._wait or ())
            connection.go(lambda again: self._end_if_safe([*done, *again]))

    def _is_anything_done(self, answers: list[Any]) -> bool:
        pairs = zip(self._under_way, answers, strict=True)
        return any(sent is not None and not isinstance(answer, LogUnavailable) for sent, answer in pairs)

    def _tell_who_was_refused(self, answers: list[Any]) -> list[Any]:
        """Let go of calls that did nothing: no wait makes that safer. Returns the answers to the others."""
        under_way, self._under_way = self._under_way, []
        done: list[Any] = []
        for sent, answer in zip(under_way, answers, strict=True):
            if isinstance(answer, LogUnavailable):
                self._tell(sent, answer, is_lost=False)
            else:
                self._under_way.append(sent)
                done.append(answer)
        return done

    def _end(self, replies: list[Any]) -> None:
        under_way, self._under_way = self._under_way, []
        is_lost = self._connection is not None and self._connection.is_lost
        if not is_lost:
            self._tell_of_refusals(replies)
        elif not self._is_closed:
            self._say(f"The connection was lost with {len(under_way)} under way. {replies[-1]}")
        for sent, reply in zip(under_way, replies, strict=True):
            self._tell(sent, reply, is_lost=is_lost)
        if self._waiting or self._again:
            self._plan(hurry=bool(self._again))

    def _tell(self, sent: tuple[Source, Call[Any], Way] | None, reply: Any, *, is_lost: bool) -> None:
        if sent is None:
            return
        source, call, way = sent
        if isinstance(reply, ScriptMissing) and not is_lost:
            self._unknown_scripts.add(call.script.sha)
            self._again.append(sent)
        elif isinstance(reply, LogUnavailable):
            # One that was sent here by another node and is sent on again waits: the nodes do not agree yet.
            if way is not Way.OWN or not isinstance(reply, Redirected) or not self._on_redirect(*sent[:2], reply):
                source.failed(reply)
        else:
            self._hand_over(source, call, reply)

    def _tell_of_refusals(self, replies: list[Any]) -> None:
        refusals = [each for each in replies if isinstance(each, LogUnavailable) and not _is_of_one(each)]
        if refusals:
            self._say(str(refusals[0]), code=refusals[0].code)
        elif self.trouble and not all(isinstance(each, LogUnavailable) for each in replies):
            self.trouble = ""
            _log.info("Appends go on")

    def _say(self, trouble: str, *, code: str = "") -> None:
        """Once, and once for each further word of Redis: a failover is silence first, then replicas are missing."""
        is_first = not self.trouble
        self.trouble = trouble
        if is_first:
            self._said.clear()
            _log.warning("Appends wait: %s", trouble)
        elif code and code not in self._said:
            _log.warning("Appends still wait, for another reason: %s", trouble)
        self._said.add(code)

    def _hand_over(self, source: Source, call: Call[Any], reply: Any) -> None:
        try:
            source.heard(call.parse(reply))
        except Exception as error:  # noqa: BLE001 - one writer's step: the others go on
            source.broke(error)

    async def _connect(self) -> None:
        failures = 0
        if self._connection:
            await self._connection.aclose()
            self._connection = None
            again, self._again = self._again, []
            for source, _, _ in again:
                source.failed(LogUnavailable("The connection was lost before the script was sent whole."))
        self._is_useless = False
        # Who waited may have gone to another lane meanwhile.
        while not self._is_closed and (self._waiting or self._again or not failures):
            try:
                self._connection = await self._dial()
                break
            except LogUnavailable as error:
                failures += 1
                self._say(str(error), code=error.code)
                # They were sent here by a node that may know better by now.
                again, self._again = self._again, []
                for source, _, _ in again:
                    source.failed(error)
            except Exception as error:  # noqa: BLE001 - a supervised step: whoever waits must not wait for ever
                _log.exception("Connecting for appends failed")
                waiting, self._waiting = self._waiting, deque()
                again, self._again = self._again, []
                for source in (*waiting, *(source for source, _, _ in again)):
                    source.broke(error)
                break
            await self._rest(failures)
        self._dialling = None
        if self._waiting or self._again:
            self._plan(hurry=True)

    async def _rest(self, failures: int) -> None:
        """Pause before the next dialling; not after the end, whose cancellation dialling may lose (bpo-37658)."""
        if not self._is_closed:
            pause = _BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS)) - 1]
            await asyncio.sleep(pause * jitter.uniform(0.7, 1.3))


def _is_of_one(error: LogUnavailable) -> bool:
    """Whether it is about one call, and says nothing of the state of the server."""
    return isinstance(error, (LogRefused, Redirected, ScriptMissing))

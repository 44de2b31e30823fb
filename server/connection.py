"""uvicorn's HTTP connection, which an event stream can take over: the hot path of the server.

Theory of operation
-------------------
1. The scope of a request offers `hand_over` (`server.web.event_stream.HAND_OVER`). The application starts its response
   as ever, through middleware and `send`; then it hands the connection to a subscription and returns.
2. From there on blocks go from the subscription to the transport: one call, no task switch, no asyncio task for the
   reader. A block that goes to a thousand readers is framed as an HTTP chunk once (`_Framer`).
3. What uvicorn keeps for a request (cycle, parser, scope, flow control) is let go, which is most of a connection's
   memory, and made anew when the stream has ended: the connection serves its next request.
4. Meanwhile the reader may only go away. A further request that it sends early waits in `_early`; more than that is no
   HTTP client of ours, and is cut off.
5. `pause_writing` and `resume_writing` of the transport are the subscription's back-pressure; what it wrote is at most
   one block above the transport's limit.

This leans on how `HttpToolsProtocol` of uvicorn 0.54 uses `cycle`, `flow`, `parser`, `scope` and `pipeline`, which is
why that version is pinned; `tests/integration/test_web_uvicorn.py` asks the same of the plain path and of this one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from server.web.event_stream import HAND_OVER

if TYPE_CHECKING:
    from server.fanout import Subscription

_END_OF_CHUNKS: Final = b"0\r\n\r\n"
#: Of requests that come while a stream lasts; a browser sends none.
_MAX_EARLY_BYTES: Final = 65_536


class _Framer:
    """Makes chunks of blocks. Subscribers with the same cursor come one after the other with the same block."""

    __slots__ = ("_block", "_chunk")

    def __init__(self) -> None:
        self._block = self._chunk = b""

    def chunk(self, block: bytes) -> bytes:
        if block is not self._block:
            self._block = block
            self._chunk = b"%x\r\n%b\r\n" % (len(block), block)
        return self._chunk


class _Answered:
    """Stands for the request whose response goes on by itself: for uvicorn it is complete."""

    response_complete: Final = True

    class message_event:  # noqa: N801 (the attribute that uvicorn sets when the connection is lost)
        @staticmethod
        def set() -> None: ...


class StreamingConnection(HttpToolsProtocol):
    """One connection. Also an `Outlet`, while a subscription has it."""

    #: One for the process: its event loop serves one connection after the other.
    _framer: Final = _Framer()
    _subscription: Subscription | None = None
    #: The request that is being answered. `cycle` is the newest one, which may still wait behind it.
    _answering: RequestResponseCycle | None = None
    #: What goes in front of the first block, in one write.
    _first: bytes = b""
    _early: bytes = b""
    _is_paused = False
    _keeps_alive = True

    def on_headers_complete(self) -> None:
        cast("dict[str, Any]", self.scope)["extensions"] = {HAND_OVER: self.hand_over}
        super().on_headers_complete()

    def hand_over(self, subscription: Subscription, first: bytes) -> bool:
        """See `server.web.event_stream.HandOver`."""
        cycle = self.cycle
        if cycle.disconnected:
            subscription.close()
            return True
        # A scope that is not the cycle's is that of a further request, of which the parser has the first bytes.
        is_last = not self.pipeline and self.scope is cycle.scope
        if not (is_last and cycle.chunked_encoding) or cycle.more_body or self.flow.write_paused:
            return False
        self._subscription = subscription
        self._keeps_alive = cycle.keep_alive
        self.flow.resume_reading()  # uvicorn pauses it at a large body; paused, the reader's leaving is not noticed
        # The cycle's own task ends when the application returns; it must not miss the end of the response.
        cycle.disconnected = True
        self._let_go()
        self._first = b"%x\r\n%b\r\n" % (len(first), first)
        subscription.attach(self)
        if self._first:  # it has nothing to say yet
            self._write_first(b"")
        return True

    # The outlet of the subscription.

    def write(self, block: bytes) -> bool:
        if self._first:
            self._write_first(self._framer.chunk(block))
        else:
            self.transport.write(self._framer.chunk(block))
        return not self._is_paused

    def finish(self) -> None:
        self._subscription = None
        if self.transport.is_closing():
            return
        if self._first:
            self._write_first(b"")
        self.transport.write(_END_OF_CHUNKS)
        if self._keeps_alive:
            self._take_back()
        else:
            self.transport.close()

    def abort(self) -> None:
        self._subscription = None
        self.transport.abort()

    @property
    def unsent_bytes(self) -> int:
        return self.transport.get_write_buffer_size()

    # What asyncio and uvicorn tell the connection.

    def data_received(self, data: bytes) -> None:
        if self._subscription is None and not self._early:
            super().data_received(data)
        elif len(self._early) + len(data) <= _MAX_EARLY_BYTES:
            self._early += data
        else:
            self.transport.abort()

    # A stream that was the last of its connection leaves no flow control behind, and perhaps bytes to send.
    def pause_writing(self) -> None:
        self._is_paused = True
        if self.flow is not None:  # pyright: ignore[reportUnnecessaryComparison]
            super().pause_writing()

    def resume_writing(self) -> None:
        self._is_paused = False
        if self._subscription is not None:
            self._subscription.resume()
        elif self.flow is not None:  # pyright: ignore[reportUnnecessaryComparison]
            super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.close()
        super().connection_lost(exc)
        answering = self._answering
        if answering is not None and not answering.response_complete:
            # uvicorn tells the newest request only; the one before it would write to a closed transport, for ever.
            answering.disconnected = True
            answering.message_event.set()

    @property
    def is_idle(self) -> bool:
        """Whether no response is under way."""
        return self._subscription is None and (self.cycle is None or self.cycle.response_complete)  # pyright: ignore[reportUnnecessaryComparison]

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: the request is answered as any other, and no library that uvicorn advises would change that."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def shutdown(self) -> None:
        """Called when the process stops, also before its streams are ended: each takes its connection along."""
        if self._subscription is None:
            super().shutdown()
        else:
            self._keeps_alive = False

    def _write_first(self, chunk: bytes) -> None:
        first, self._first = self._first, b""
        self.transport.write(first + chunk)

    def _let_go(self) -> None:
        self.cycle = cast("RequestResponseCycle", _Answered)
        self._answering = None
        self.flow = cast("FlowControl", None)
        self.parser = cast("httptools.HttpRequestParser", None)
        self.scope = cast("Any", None)
        self.headers = cast("Any", None)
        self.pipeline = cast("Any", ())

    def _take_back(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.pipeline = deque()
        self.flow = FlowControl(self.transport)
        if self._is_paused:
            self.flow.pause_writing()
        self.on_response_complete()
        if self._early:
            # Not now: `finish` may have been called in the middle of serving many. What comes until then, joins it.
            asyncio.get_running_loop().call_soon(self._serve_early)

    def _serve_early(self) -> None:
        early, self._early = self._early, b""
        if not self.transport.is_closing():
            self.data_received(early)

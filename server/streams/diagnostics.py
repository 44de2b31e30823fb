"""Where log lines go and what they look like. All log through the standard library; structlog renders.

Invariant: one event, one line on stderr (in JSON always; on a terminal a traceback follows its line).
Modules call `logging.getLogger(__name__)` and know nothing of this one; only entry points configure.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
#: Libraries that tell their life at `info`; what they say there, our own lines say better.
_TALKATIVE: Final = ("uvicorn", "uvicorn.error", "httpx", "httpcore", "asyncio", "sse_starlette")


def configure_logging(format: str, level: str) -> None:
    """Send every logger of this process to stderr. `format` is auto, console or json."""
    stream = sys.stderr
    is_console = format == "console" or (format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_console(has_colours(stream)) if is_console else _json())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    for name in _TALKATIVE:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(max(_LEVELS[level], logging.WARNING) if level != "debug" else logging.INFO)
    logging.captureWarnings(capture=True)


def has_colours(stream: TextIO) -> bool:
    """Whether to colour what goes to `stream`: see no-color.org and force-color.org."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


def _drop_colour_twin(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Each line of uvicorn carries its coloured twin as an extra field."""
    event.pop("color_message", None)
    return event


def _fields(time_format: str, *, utc: bool) -> list[Processor]:
    return [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _drop_colour_twin,
        structlog.processors.TimeStamper(fmt=time_format, utc=utc),
    ]


def _console(colours: bool) -> logging.Formatter:  # noqa: FBT001 (private; the name says it)
    renderer = structlog.dev.ConsoleRenderer(
        colors=colours,
        pad_event_to=0,
        exception_formatter=structlog.dev.plain_traceback,
        sort_keys=False,
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_fields("%H:%M:%S", utc=False),
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )


def _json() -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_fields("iso", utc=True),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(default=str),
        ],
    )

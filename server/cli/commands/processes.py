"""`reprise dev`, `server` and `worker`: what they take, and what takes this process over."""

from __future__ import annotations

from typing import Annotated

import typer

from server.cli.become_worker import become_worker
from server.streams.settings import load_settings

Host = Annotated[
    str | None,
    typer.Option(help="Address to listen on. [default: REPRISE_HOST or 127.0.0.1]", show_default=False),
]
# A text: the settings judge it, so that every port that does not work gets a sentence of the same kind.
Port = Annotated[
    str | None,
    typer.Option(help="Port to listen on. [default: REPRISE_PORT or 8000]", show_default=False, metavar="INTEGER"),
]


def dev(
    *,
    host: Host = None,
    port: Port = None,
    workers: Annotated[int, typer.Option(min=0, max=64, help="How many workers; 0 for none.")] = 1,
    tasks: Annotated[
        list[str] | None,
        typer.Option(help="Module with task functions; may be repeated. [default: the demo tasks]", show_default=False),
    ] = None,
    ephemeral: Annotated[bool, typer.Option("--ephemeral", help="Keep nothing after the end.")] = False,
) -> None:
    """Run everything on this machine: Redis, a server and a worker.

    Nothing has to be installed or started before. Data is kept in .reprise/; with REPRISE_REDIS_URL set,
    that Redis is used instead. What dies is started again. Ctrl-C stops all in order.
    """
    from server.dev.supervisor import DevOptions, run_dev
    from server.settings import ServerSettings

    settings = load_settings(ServerSettings, host=host, port=port)
    options = DevOptions(workers=workers, task_modules=tuple(tasks or ()), is_ephemeral=ephemeral)
    raise typer.Exit(run_dev(settings, options))


def server(
    host: Host = None,
    port: Port = None,
    listen_fd: Annotated[list[int] | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run one server: it answers HTTP and streams events.

    Any number of them may share one Redis; a reader may go from one to another in mid-stream.
    """
    import socket

    from server.serving import run_server
    from server.settings import ServerSettings
    from server.streams.diagnostics import configure_logging

    settings = load_settings(ServerSettings, host=host, port=port)
    configure_logging(settings.log_format, settings.log_level)
    listeners = [socket.socket(fileno=number) for number in listen_fd or ()]
    raise typer.Exit(run_server(settings, listeners=listeners or None))


def worker(context: typer.Context) -> None:
    """Run one worker: it executes tasks. Options: reprise worker --help."""
    become_worker(context.args)

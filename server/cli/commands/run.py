"""`reprise run`: what it takes."""

from __future__ import annotations

from typing import Annotated

import typer

from server.cli.commands.shared import Url, url_of_settings


def run_task(
    type: Annotated[str, typer.Argument(help="Type of the task, as in GET /task-types.", metavar="TYPE")],
    *,
    input: Annotated[str, typer.Option(help="Input of the task, a JSON object.", metavar="JSON")] = "{}",
    queue: Annotated[
        str | None,
        typer.Option(help="Queue to put it into. [default: that of its type]", metavar="NAME", show_default=False),
    ] = None,
    delay: Annotated[
        float | None,
        typer.Option(help="Begin after so many seconds, 0 to 31622400.", metavar="SECONDS", show_default=False),
    ] = None,
    unique_key: Annotated[
        str | None,
        typer.Option(
            help="Follow the task of this type with this key if there is one that has not ended; else start it.",
            metavar="KEY",
            show_default=False,
        ),
    ] = None,
    url: Url = None,
) -> None:
    """Start a task and follow it to its end.

    Survives restarts of the server and of everything behind it. The result goes to stdout, the rest to
    stderr.

    Exit code: 0 when the task completed, 1 when it failed or was cancelled, 2 when it could not be started,
    130 after Ctrl-C, which stops following but not the task.
    """
    from server.cli.run import run_and_follow

    url = url or url_of_settings()
    raise typer.Exit(run_and_follow(type, input, url=url, queue=queue, delay=delay, unique_key=unique_key))

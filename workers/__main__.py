"""The command line of a worker: `python -m workers`, which is `reprise worker`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from server.streams.early_stop import leave_if_told
from server.streams.settings import CannotStart, load_settings
from workers.settings import WorkerSettings

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: list[str] | None = None) -> None:
    """Run a worker and leave with its exit code."""
    leave_if_told()
    try:
        app(args=arguments, prog_name="reprise worker")
    except CannotStart as refused:
        for sentence in str(refused).splitlines():
            print(f"reprise: {sentence}", file=sys.stderr)
        sys.exit(refused.exit_code)


@app.command(epilog="Settings are environment variables with the prefix REPRISE_, also in .env: docs/settings.md.")
def worker(
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE",
            help="Module with task functions; may be repeated. [default: REPRISE_TASKS or the demo tasks]",
            show_default=False,
        ),
    ] = None,
    queues: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Queue to take tasks from; may be repeated. The first is the most urgent: a later one has its turn "
            "while the earlier ones are empty. [default: REPRISE_QUEUES, or 'default' and the queues of its task "
            "types, all alike]",
            show_default=False,
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="How many tasks to run side by side. [default: REPRISE_CONCURRENCY or 10]",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="What to call this worker where workers are listed.", show_default=False),
    ] = None,
) -> None:
    """Run one worker: it executes tasks and writes what they emit.

    Any number of them may share one Redis. Modules are found as Python finds them, the current folder first.
    Several names may also stand in one option, with commas between them.
    """
    from server.streams.diagnostics import configure_logging
    from workers.main import run_worker

    settings = load_settings(
        WorkerSettings, tasks=_joined(tasks), queues=_joined(queues), concurrency=concurrency, name=name
    )
    configure_logging(settings.log_format, settings.log_level)
    raise typer.Exit(run_worker(settings, list(settings.tasks)))


def _joined(names: list[str] | None) -> str | None:
    return ",".join(names) if names else None


if __name__ == "__main__":
    main()

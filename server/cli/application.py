"""The typer application: which commands there are, and what an error looks like.

Invariant: whatever a person can mend is one sentence on stderr and an exit code, never a traceback.
"""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Annotated

import typer

from server.cli.commands import processes, publish, tail
from server.cli.commands import run as run_task
from server.cli.commands.dead_letters import dead_letters
from server.streams.settings import CannotStart

app = typer.Typer(
    name="reprise",
    help="Resumable event streams over Server-Sent Events, backed by Redis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Settings are environment variables with the prefix REPRISE_, also in .env: docs/settings.md.",
    rich_markup_mode=None,
)
app.command()(processes.dev)
app.command()(processes.server)
# Options of a worker are its own program's to read.
app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)(processes.worker)
app.command(name="run")(run_task.run_task)
app.command(name="publish", cls=publish.Publish, epilog=publish.EXAMPLES)(publish.publish_events)
app.command(name="tail", epilog=tail.EXAMPLES)(tail.tail_streams)
app.add_typer(dead_letters)


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    try:
        app(args=arguments, prog_name="reprise")
    except CannotStart as refused:
        for sentence in str(refused).splitlines():
            print(f"reprise: {sentence}", file=sys.stderr)
        return refused.exit_code
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _show_version(is_asked: bool) -> None:
    if is_asked:
        print(f"reprise {importlib.metadata.version('reprise')}")
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Resumable event streams over Server-Sent Events, backed by Redis."""

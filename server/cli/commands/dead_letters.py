"""`reprise dead-letters`: what its commands take."""

from __future__ import annotations

from typing import Annotated

import typer

from server.cli.commands.shared import Url, url_of_settings

dead_letters = typer.Typer(
    name="dead-letters",
    help="List, inspect, retry and delete dead letters: tasks that were given up after their last attempt.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog="Exit code: 0 when it was done, 1 when the server refuses (no such dead letter), 2 when it cannot be asked.",
)
TaskIds = Annotated[list[str], typer.Argument(help="Ids of their tasks, as `list` shows them.", metavar="TASK_ID")]


@dead_letters.command(name="list")
def list_dead_letters(
    *,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many to show, newest first.")] = 50,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON array instead of a table.")] = False,
    url: Url = None,
) -> None:
    """List the newest ones."""
    from server.cli import dead_letters as command

    raise typer.Exit(command.list_all(url=url or url_of_settings(), limit=limit, as_json=json))


@dead_letters.command(name="show")
def show_dead_letter(
    task_id: Annotated[str, typer.Argument(help="Id of its task, as `list` shows it.", metavar="TASK_ID")],
    url: Url = None,
) -> None:
    """Show one as JSON: its input, and how each attempt failed."""
    from server.cli import dead_letters as command

    raise typer.Exit(command.show(task_id, url=url or url_of_settings()))


@dead_letters.command(name="retry")
def retry_dead_letters(task_ids: TaskIds, url: Url = None) -> None:
    """Run their tasks again, from the beginning and with all their attempts."""
    from server.cli import dead_letters as command

    raise typer.Exit(command.retry(task_ids, url=url or url_of_settings()))


@dead_letters.command(name="delete")
def delete_dead_letters(task_ids: TaskIds, url: Url = None) -> None:
    """Forget them. Their tasks stay failed, and expire as others do."""
    from server.cli import dead_letters as command

    raise typer.Exit(command.delete(task_ids, url=url or url_of_settings()))

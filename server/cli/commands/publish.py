"""`reprise publish`: what it takes."""

from __future__ import annotations

import shlex
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from server.cli.commands.shared import AS_IT_STANDS, Url, url_of_settings

EXAMPLES = (
    AS_IT_STANDS
    + """\
Examples:
  reprise publish chat.42 "Hello" --type note
  reprise publish status.7 up --key state
  reprise publish temperature.7 -- -5
  tail -f app.log | reprise publish logs --type line
  reprise publish build.7 --json --close < events.ndjson
  reprise publish import.3 --idempotency-key "$(uuidgen)" < rows.txt"""
)


class Publish(TyperCommand):
    """Says of an option that there is not how data is given that looks like one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except typer.TyperException as error:
            name = getattr(error, "option_name", None)
            if name is not None and getattr(error, "possibilities", name) in (None, []):
                found = next((each for each in given if each.startswith(name)), name)
                data = shlex.quote(found) if found.isprintable() else "DATA"
                error.message += f". Data that begins with a dash stands behind --: reprise publish STREAM -- {data}"
            raise


def publish_events(
    stream: Annotated[
        str, typer.Argument(help="Name of the stream; it is there with its first event.", metavar="STREAM")
    ],
    data: Annotated[
        str | None,
        typer.Argument(
            help="Data of one event; behind -- if it begins with a dash. [default: each line of stdin]",
            metavar="DATA",
            show_default=False,
        ),
    ] = None,
    *,
    type: Annotated[
        str | None, typer.Option(help="Type of each event. [default: message]", metavar="TYPE", show_default=False)
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="Key of each event: the latest with it says it all.", metavar="KEY", show_default=False),
    ] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Each is a text that continues the one before, line ends included.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help='Each is a JSON object: {"type": …, "data": …, "key": …} or with "append".')
    ] = False,
    close: Annotated[bool, typer.Option("--close", help="End the stream once everything is stored.")] = False,
    ids: Annotated[bool, typer.Option("--ids", help="Print the id of each event, one a line.")] = False,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            help="Send each line by itself under KEY:LINE, so that the same command again, within 24 hours, stores "
            "nothing twice.",
            metavar="KEY",
            show_default=False,
        ),
    ] = None,
    patience: Annotated[
        float, typer.Option(help="How long to try again while the server is away.", metavar="SECONDS")
    ] = 300,
    url: Url = None,
) -> None:
    """Publish to a stream: one event, or each line of stdin as it comes.

    Lines are stored in their order, each once, across restarts of the server. Lines that come fast go together. If it
    ends early, stderr tells up to which line all are stored.

    Exit code: 0 when all are stored, 1 when something was refused or the server stayed away, 2 when nothing could be
    sent, 130 after Ctrl-C, 141 when nobody reads the ids.
    """
    from server.cli.lines import Form
    from server.cli.publish import How, publish

    form = Form(is_json=json, type=type, key=key, is_appended=append)
    how = How(form, key=idempotency_key, patience_seconds=patience, shows_ids=ids, closes=close)
    raise typer.Exit(publish(stream, data, url=url or url_of_settings(), how=how))

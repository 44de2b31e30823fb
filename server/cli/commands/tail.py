"""`reprise tail`: what it takes."""

from __future__ import annotations

from typing import Annotated

import typer

from server.cli.commands.shared import AS_IT_STANDS, Url, url_of_settings

EXAMPLES = (
    AS_IT_STANDS
    + """\
Examples:
  reprise tail chat.42
  reprise tail system tasks --from latest
  reprise tail logs --since 10m --type line --raw
  reprise tail chat.42 --last 20 --json | jq .data
  reprise tail https://events.example.org/tasks/k5x2wq/events"""
)


def tail_streams(
    streams: Annotated[
        list[str],
        typer.Argument(help="Names of streams, or one URL, or one path such as /tasks/ID/events.", metavar="STREAM"),
    ],
    *,
    at: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Begin at earliest or latest, or behind the event with this id. [default: the beginning; of system "
            "and tasks the end]",
            metavar="WHERE",
            show_default=False,
        ),
    ] = None,
    last: Annotated[
        int | None, typer.Option(help="Begin with the newest N events.", metavar="N", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="Begin with what happened from then on: 2026-11-26T18:30:00Z, or so long ago: 90s, 10m, 2h, 1d.",
            metavar="TIME",
            show_default=False,
        ),
    ] = None,
    type: Annotated[
        list[str] | None,
        typer.Option(
            help="Show events of this type only, and Reprise's own; may be repeated.",
            metavar="TYPE",
            show_default=False,
        ),
    ] = None,
    compact: Annotated[
        bool,
        typer.Option(
            "--compact", help="Show what is there already in few events: a text in one piece, of each key the latest."
        ),
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print each as a JSON object with stream, id, type and data.")
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Print the data alone.")] = False,
    heartbeat: Annotated[
        float | None,
        typer.Option(
            help="REPRISE_HEARTBEAT_SECONDS of the server: it is asked anew after three without a byte. [default: 15]",
            metavar="SECONDS",
            show_default=False,
        ),
    ] = None,
    url: Url = None,
) -> None:
    """Follow streams: what is there, and what comes.

    Goes on by itself where a connection or a server ends, each event once; stderr tells of that, and of events that
    are missing. Events go to stdout.

    Exit code: 0 at the end of the streams, 1 when the server refuses, 2 when it cannot be asked, 130 after Ctrl-C,
    which tells how to go on from there, 141 when nobody reads the output.
    """
    from server.cli.server import Misused
    from server.cli.tail import How, tail
    from server.cli.targets import Begin

    if json and raw:
        raise Misused("--json and --raw are two ways to print an event. Use one of them.")
    begin = Begin(at=at, last=last, since=since, types=tuple(type or ()), is_compact=compact)
    how = How(begin, style="json" if json else "raw" if raw else "text", heartbeat_seconds=heartbeat)
    raise typer.Exit(tail(streams, url=url or url_of_settings(), how=how))

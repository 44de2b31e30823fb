"""The typer application: options, help, and what an error looks like.

Invariant: whatever a person can mend is one sentence on stderr and an exit code, never a traceback. Commands
hold no logic; they read settings and call what does the work.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from typing import Annotated

import typer

from server.streams.settings import CannotStart, load_settings

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

Host = Annotated[
    str | None,
    typer.Option(help="Address to listen on. [default: REPRISE_HOST or 127.0.0.1]", show_default=False),
]
# A text: the settings judge it, so that every port that does not work gets a sentence of the same kind.
Port = Annotated[
    str | None,
    typer.Option(help="Port to listen on. [default: REPRISE_PORT or 8000]", show_default=False, metavar="INTEGER"),
]

# Paragraphs are wrapped, but for those that begin with this mark.
_AS_IT_STANDS = "\b\n"
_PUBLISH_EXAMPLES = (
    _AS_IT_STANDS
    + """\
Examples:
  reprise publish chat.42 "Hello" --type note
  reprise publish status.7 up --key state
  tail -f app.log | reprise publish logs --type line
  reprise publish build.7 --json --close < events.ndjson
  reprise publish import.3 --idempotency-key "$(uuidgen)" < rows.txt"""
)
_TAIL_EXAMPLES = (
    _AS_IT_STANDS
    + """\
Examples:
  reprise tail chat.42
  reprise tail system tasks --from latest
  reprise tail logs --since 10m --type line --raw
  reprise tail chat.42 --last 20 --json | jq .data
  reprise tail https://events.example.org/tasks/k5x2wq/events"""
)


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


@app.command()
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


@app.command()
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


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def worker(context: typer.Context) -> None:
    """Run one worker: it executes tasks. Options: reprise worker --help."""
    # Workers are a program of their own, which this package must not import; it takes this process over.
    os.execv(sys.executable, [sys.executable, "-m", "workers", *context.args])  # noqa: S606


@app.command(name="run")
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
    url: Annotated[
        str | None,
        typer.Option(help="Where the server is. [default: REPRISE_HOST and REPRISE_PORT]", show_default=False),
    ] = None,
) -> None:
    """Start a task and follow it to its end.

    Survives restarts of the server and of everything behind it. The result goes to stdout, the rest to
    stderr.

    Exit code: 0 when the task completed, 1 when it failed or was cancelled, 2 when it could not be started,
    130 after Ctrl-C, which stops following but not the task.
    """
    from server.cli.run import run_and_follow

    url = url or _url_of_settings()
    raise typer.Exit(run_and_follow(type, input, url=url, queue=queue, delay=delay, unique_key=unique_key))


Url = Annotated[
    str | None,
    typer.Option(help="Where the server is. [default: REPRISE_HOST and REPRISE_PORT]", show_default=False),
]


@app.command(name="publish", epilog=_PUBLISH_EXAMPLES)
def publish_events(
    stream: Annotated[
        str, typer.Argument(help="Name of the stream; it is there with its first event.", metavar="STREAM")
    ],
    data: Annotated[
        str | None,
        typer.Argument(help="Data of one event. [default: each line of stdin]", metavar="DATA", show_default=False),
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
    sent, 130 after Ctrl-C.
    """
    from server.cli.lines import Form
    from server.cli.publish import How, publish

    form = Form(is_json=json, type=type, key=key, is_appended=append)
    how = How(form, key=idempotency_key, patience_seconds=patience, shows_ids=ids, closes=close)
    raise typer.Exit(publish(stream, data, url=url or _url_of_settings(), how=how))


@app.command(name="tail", epilog=_TAIL_EXAMPLES)
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
    which tells how to go on from there.
    """
    from server.cli.server import Misused
    from server.cli.tail import How, tail
    from server.cli.targets import Begin

    if json and raw:
        raise Misused("--json and --raw are two ways to print an event. Use one of them.")
    begin = Begin(at=at, last=last, since=since, types=tuple(type or ()))
    how = How(begin, style="json" if json else "raw" if raw else "text", heartbeat_seconds=heartbeat)
    raise typer.Exit(tail(streams, url=url or _url_of_settings(), how=how))


dead_letters = typer.Typer(
    name="dead-letters",
    help="List, inspect, retry and delete dead letters: tasks that were given up after their last attempt.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog="Exit code: 0 when it was done, 1 when the server refuses (no such dead letter), 2 when it cannot be asked.",
)
app.add_typer(dead_letters)

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

    raise typer.Exit(command.list_all(url=url or _url_of_settings(), limit=limit, as_json=json))


@dead_letters.command(name="show")
def show_dead_letter(
    task_id: Annotated[str, typer.Argument(help="Id of its task, as `list` shows it.", metavar="TASK_ID")],
    url: Url = None,
) -> None:
    """Show one as JSON: its input, and how each attempt failed."""
    from server.cli import dead_letters as command

    raise typer.Exit(command.show(task_id, url=url or _url_of_settings()))


@dead_letters.command(name="retry")
def retry_dead_letters(task_ids: TaskIds, url: Url = None) -> None:
    """Run their tasks again, from the beginning and with all their attempts."""
    from server.cli import dead_letters as command

    raise typer.Exit(command.retry(task_ids, url=url or _url_of_settings()))


@dead_letters.command(name="delete")
def delete_dead_letters(task_ids: TaskIds, url: Url = None) -> None:
    """Forget them. Their tasks stay failed, and expire as others do."""
    from server.cli import dead_letters as command

    raise typer.Exit(command.delete(task_ids, url=url or _url_of_settings()))


def _url_of_settings() -> str:
    from server.settings import ServerSettings

    settings = load_settings(ServerSettings)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"

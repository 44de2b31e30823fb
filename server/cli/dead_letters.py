"""`reprise dead-letters`: tasks that were given up, seen and decided on over HTTP.

Invariant: what was asked for goes to stdout, everything else to stderr; a person's mistake is a sentence.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final, cast
from urllib.parse import quote

import httpx
from rich.console import Console
from rich.table import Table

from server.cli.server import NOBODY, Refused, Unreachable, refusal, server_at

_LONGEST_ERROR: Final = 80
#: More than the longest id, type and error need together.
_PIPE_COLUMNS: Final = 500


def list_all(*, url: str, limit: int, as_json: bool) -> int:
    """Show the newest dead letters."""
    found: list[dict[str, Any]] = []
    with _server(url) as http:
        cursor: str | None = None
        while len(found) < limit:
            asked: dict[str, Any] = {"limit": min(limit - len(found), 100)} | ({"cursor": cursor} if cursor else {})
            page = _answer(http.get("dead-letters", params=asked))
            found += page["dead_letters"]
            cursor = page["next"]
            if cursor is None:
                break
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
    elif found:
        _print_table(found)
    if cursor is not None:
        print(f"There are more than {limit}; --limit shows more of them.", file=sys.stderr)
    if not found:
        print("There are no dead letters.", file=sys.stderr)
    return 0


def show(task_id: str, *, url: str) -> int:
    """Show one as JSON: its input, and how each attempt failed."""
    with _server(url) as http:
        found = _answer(http.get(_path(task_id)))
    print(json.dumps(found, ensure_ascii=False, indent=2))
    return 0


def retry(task_ids: list[str], *, url: str) -> int:
    """Run their tasks again."""
    with _server(url) as http:
        for task_id in task_ids:
            _answer(http.post(f"{_path(task_id)}/retry"))
            print(f"Task {task_id} runs again.", file=sys.stderr)
    return 0


def delete(task_ids: list[str], *, url: str) -> int:
    """Forget them."""
    with _server(url) as http:
        for task_id in task_ids:
            _answer(http.delete(_path(task_id)))
            print(f"Dead letter {task_id} is deleted.", file=sys.stderr)
    return 0


def _path(task_id: str) -> str:
    return f"dead-letters/{quote(task_id, safe='')}"


@contextmanager
def _server(url: str) -> Generator[httpx.Client]:
    with server_at(url, Unreachable) as http:
        try:
            yield http
        except httpx.ConnectError:
            raise Unreachable(NOBODY.format(http.base_url)) from None
        except httpx.UnsupportedProtocol:
            raise  # a transport error by descent only: it says that the address is none
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"The server at {http.base_url} did not answer: {reason}. Try again.") from None


def _answer(response: httpx.Response) -> dict[str, Any]:
    if response.status_code >= 500:
        raise Unreachable(refusal(response))
    if response.status_code >= 400:
        raise Refused(refusal(response))
    if not response.content:
        return {}
    try:
        return cast("dict[str, Any]", response.json())
    except ValueError:
        raise Unreachable(f"What answers at {response.url} is not Reprise. Name its server with --url.") from None


def _print_table(found: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    # An id that is cut off is of no use, however narrow the terminal.
    table.add_column("TASK", no_wrap=True, min_width=max(len(each["task_id"]) for each in found))
    for name in ("TYPE", "FAILED AT", "ATTEMPTS", "CODE", "ERROR"):
        table.add_column(name, no_wrap=True)
    for each in found:
        error = " ".join(str(each["error"]).split())[:_LONGEST_ERROR]
        cells = (each["task_id"], each["type"], each["failed_at"], each["attempts"], each["code"], error)
        table.add_row(*(_plain(cell) for cell in cells))
    # A pipe gets whole lines: whoever reads it does not see where a terminal would have ended.
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _PIPE_COLUMNS).print(table)


def _plain(cell: object) -> str:
    return "".join(character for character in str(cell) if character.isprintable())

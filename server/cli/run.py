"""`reprise run`: starts a task over HTTP and follows it to its end."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import uuid
from collections.abc import Callable, Generator
from datetime import datetime
from math import inf
from typing import Any, Final, cast
from urllib.parse import urljoin

import httpx

from server.cli.decoding import Received
from server.cli.follow import TERMINAL, NoMore, follow
from server.cli.notes import Notes
from server.cli.plain import plain, plain_json
from server.cli.screen import Screen, parsed
from server.cli.sending import Sender, Unanswered
from server.cli.server import INTERRUPTED, Refused, refusal, server_at
from server.streams.settings import CannotStart

#: A server restarts sooner.
_START_SECONDS: Final = 15.0
#: A free worker begins at once; after this long a person wonders.
_PATIENCE_SECONDS: Final = 2.0
#: Events that say nothing of the task itself.
_STANDING: Final = frozenset({"position", "heartbeat", "open", "gap"})


class NotStarted(CannotStart):
    """The caller's: no such type, wrong input, or no server."""

    exit_code = 2


def run_and_follow(
    type: str,
    input: str,
    *,
    url: str,
    queue: str | None = None,
    delay: float | None = None,
    unique_key: str | None = None,
) -> int:
    """Start a task and show it until its end; returns the exit code. Raises `NotStarted`."""
    if delay is not None and not 0 <= delay < inf:
        raise NotStarted(f"--delay is {delay!r}. Use a number of seconds, 0 or more.")
    asked = {"queue": queue, "delay": delay, "unique_key": unique_key}
    body = {"type": type, "input": _object(input)} | {name: each for name, each in asked.items() if each is not None}
    with server_at(url, NotStarted) as http:
        return _follow(http, type, _start(http, body))


def _follow(http: httpx.Client, type: str, task: dict[str, Any]) -> int:
    task_url = urljoin(str(http.base_url), f"tasks/{task['id']}")
    with Screen() as screen:
        screen.note(f"task {task['id']}")
        if task["not_before"]:
            screen.note(f"begins at {_local_time(task['not_before'])}")
        try:
            with _asking_for_a_worker(http, type, task_url, screen) as begun:
                ending = _show_until_end(http, task, screen, begun)
        except KeyboardInterrupt:
            screen.note(f"no longer following; the task goes on. To cancel it: curl -X POST {task_url}/cancel")
            return INTERRUPTED
    return outcome(ending or _recorded_ending(http.get(task_url)))


@contextlib.contextmanager
def _asking_for_a_worker(http: httpx.Client, type: str, task_url: str, screen: Screen) -> Generator[Callable[[], None]]:
    """Say so if the task cannot begin for want of a worker. Yields what to call once it has begun."""

    def ask() -> None:
        with contextlib.suppress(httpx.HTTPError, ValueError, LookupError, TypeError):
            task = http.get(task_url).json()
            if task["status"] == "pending" and task["workers"] == 0:
                screen.note(f"waiting for a worker that offers {type!r} and takes tasks from queue {task['queue']!r}")

    # A thread of its own: this one waits for the stream, which has nothing to say yet.
    timer = threading.Timer(_PATIENCE_SECONDS, ask)
    timer.daemon = True
    timer.start()
    try:
        yield timer.cancel
    finally:
        timer.cancel()


def _show_until_end(
    http: httpx.Client, task: dict[str, Any], screen: Screen, begun: Callable[[], None]
) -> Received | None:
    """The terminal event; None if the stream is over without one for us."""
    try:
        for received in follow(http, urljoin(str(http.base_url), task["events_url"]), screen.note):
            if received.type not in _STANDING:
                begun()
            if received.type in TERMINAL:
                if received.type == "complete":
                    screen.fill_bar()
                return received
            screen.show(received)
    except NoMore:
        pass
    except Refused as refused:
        if refused.status != 404:
            raise
    return None


def _recorded_ending(response: httpx.Response) -> Received:
    """Its events are gone: the record may still know how it ended."""
    if response.status_code != 200:
        return Received("error", json.dumps({"error": "the server no longer knows it", "code": "unknown"}), "")
    task = response.json()
    event = {"completed": "complete", "cancelled": "cancelled"}.get(task["status"], "error")
    data = {"result": task.get("result"), "error": task.get("error"), "code": task["status"]}
    return Received(event, json.dumps(data), "")


def outcome(ending: Received) -> int:
    """Tell how the task has ended; returns the exit code."""
    values = cast("dict[str, Any]", parsed(ending.data))
    if ending.type == "complete":
        print(plain_json(json.dumps(values.get("result"), ensure_ascii=False)))
        return 0
    text = f"failed: {values.get('error')} ({values.get('code')})" if ending.type == "error" else "was cancelled"
    print(f"reprise: The task {plain(text)}.", file=sys.stderr)
    return 1


def _start(http: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    """POST the task; the same key on every try, so that a lost answer does not start it twice."""
    try:
        with Notes() as notes:
            sender = Sender(http, patience_seconds=_START_SECONDS, waiting=notes.wait)
            response = sender.post("tasks", headers={"idempotency-key": uuid.uuid4().hex}, json=body)
    except Unanswered as error:
        reason = str(error).rstrip(".")
        raise NotStarted(f"The task could not be started in {_START_SECONDS:.0f} seconds. {reason}.") from None
    if response.status_code >= 300:
        raise NotStarted(refusal(response))
    return _task_of(response)


def _task_of(response: httpx.Response) -> dict[str, Any]:
    try:
        task = response.json()
        return {
            "id": str(task["id"]),
            "events_url": str(task["events_url"]),
            "not_before": task.get("not_before"),
        }
    except (ValueError, KeyError, TypeError):
        raise NotStarted(f"What answers at {response.url} is not Reprise. Name its server with --url.") from None


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise NotStarted(f"--input is not JSON: {error}. Write an object, such as '{{\"seconds\": 5}}'.") from None
    if not isinstance(value, dict):
        raise NotStarted(f"--input is {text[:80]!r}, but an input is a JSON object, such as '{{\"seconds\": 5}}'.")
    return value  # pyright: ignore[reportUnknownVariableType]


def _local_time(moment: str) -> str:
    """The time as clocks show it where the reader is."""
    return f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M:%S}"

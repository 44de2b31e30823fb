"""`reprise tail`: every event once across restarts, what it prints for whom, and how it ends."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.commands import command, for_nobody, on_terminal
from tests.e2e.dev_run import reprise
from tests.e2e.product import Product
from tests.e2e.scripted import STREAM_HEAD, answer, frame, scripted
from tests.support.http import http_client
from tests.support.ports import unused_port

PART = 20
NOTHING_MORE = "reprise: nothing more comes: this has ended, or was deleted"

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def publish(found: Product, stream: str, *events: dict[str, Any]) -> list[str]:
    async with http_client(found.url) as http:
        response = await http.post(f"/streams/{stream}/events", json=events)
    return response.raise_for_status().json()["ids"]


async def close(found: Product, stream: str) -> str:
    async with http_client(found.url) as http:
        return (await http.post(f"/streams/{stream}/close")).raise_for_status().json()["id"]


def numbers(part: int) -> list[dict[str, Any]]:
    return [{"type": "n", "data": number} for number in range(part * PART, (part + 1) * PART)]


async def test_each_event_is_shown_once_across_two_restarts_of_the_server(
    tmp_path: Path, found: Product, stream: str
) -> None:
    server = found.servers[0]
    ids: list[str] = []
    async with command(tmp_path, "tail", stream, "--json", "--url", found.url) as tail:
        for part in range(3):
            ids += await publish(found, stream, *numbers(part))
            await tail.has((part + 1) * PART)
            if part < 2:
                await server.kill()
                await server.start()
                await server.ready()
        ids.append(await close(found, stream))
        assert await tail.ended() == 0, tail.errors
    shown = [json.loads(line) for line in tail.lines]
    assert [event["id"] for event in shown] == ids
    assert [event["data"] for event in shown[:-1]] == [str(number) for number in range(3 * PART)]
    assert {event["stream"] for event in shown} == {stream}
    assert shown[-1]["type"] == "complete"
    assert tail.errors.count("; connecting again") >= 2
    assert tail.errors.count("connected again, and going on where it was\n") == 2


async def test_a_person_and_a_program_each_get_their_form(tmp_path: Path, found: Product, stream: str) -> None:
    events: list[dict[str, Any]] = [
        {"type": "note", "data": "a\nb"},
        {"type": "token", "append": "Hi\x1b[31m"},
        {"type": "note", "data": {"x": 1}},
    ]
    ids = await publish(found, stream, *events)
    await close(found, stream)
    for options, shown in (
        ([], ["note a", "  b", 'token {"text":"Hi\\u001b[31m"}', 'note {"x":1}', 'complete {"result":null}']),
        (["--raw"], ["a", "b", '{"text":"Hi\\u001b[31m"}', '{"x":1}', '{"result":null}']),
        (["--type", "token"], ['token {"text":"Hi\\u001b[31m"}', 'complete {"result":null}']),
        (["--last", "2", "--raw"], ['{"x":1}', '{"result":null}']),
        (["--from", ids[1], "--raw"], ['{"x":1}', '{"result":null}']),
        (["--from", "earliest", "--type", "none"], ['complete {"result":null}']),
    ):
        code, out, errors = await reprise(tmp_path, "tail", stream, *options, "--url", found.url)
        assert (code, out.splitlines(), errors) == (0, shown, "")
    by_path = await reprise(tmp_path, "tail", f"/streams/{stream}/events?last=1", "--raw", "--url", found.url)
    by_url = await reprise(tmp_path, "tail", f"{found.url}/streams/{stream}/events?last=1", "--raw")
    assert by_path == by_url == (0, '{"result":null}\n', "")


async def test_several_streams_are_shown_in_full_and_each_once_although_the_server_is_killed(
    tmp_path: Path, found: Product, stream: str
) -> None:
    server, names = found.servers[0], (f"{stream}.a", f"{stream}.b")
    expected: dict[str, list[tuple[str, str]]] = {name: [] for name in names}
    async with command(tmp_path, "tail", *names, "--json", "--url", found.url) as tail:
        for part in range(3):
            for name in names:
                ids = await publish(found, name, *numbers(part))
                expected[name] += [(each, str(part * PART + place)) for place, each in enumerate(ids)]
            await tail.has((part + 1) * PART * len(names))
            if part < 2:
                await server.kill()
                await server.start()
                await server.ready()
        for name in names:
            expected[name].append((await close(found, name), '{"result":null}'))
        assert await tail.ended() == 0, tail.errors
    shown = [json.loads(line) for line in tail.lines]
    own_ids = [event["id"].partition(",")[0].partition(":") for event in shown]
    assert [name for name, _, _ in own_ids] == [event["stream"] for event in shown]
    for name in names:
        of_it = [(own[2], event["data"]) for own, event in zip(own_ids, shown, strict=True) if own[0] == name]
        assert of_it == expected[name]
    assert all(set(re.findall(r"([^,:]+):", event["id"])) == set(names) for event in shown)
    assert "; connecting again\n" in tail.errors
    assert tail.errors.count("connected again, and going on where it was\n") == 2


async def test_ctrl_c_over_several_streams_prints_the_command_that_shows_exactly_the_rest_of_each(
    tmp_path: Path, found: Product, stream: str
) -> None:
    names = (f"{stream}.a", f"{stream}.b")
    for name in names:
        await publish(found, name, *numbers(0))
    async with command(tmp_path, "tail", *names, "--raw", "--compact", "--type", "n", "--url", found.url) as tail:
        await tail.has(2 * PART)
        tail.interrupt()
        assert await tail.ended() == 130
    sentence = re.fullmatch(r"reprise: Interrupted\. To go on from here: reprise (.*)\n", tail.errors)
    assert sentence, tail.errors
    assert {"--compact", "--raw", "--type"} < set(shlex.split(sentence[1]))
    for name in names:
        await publish(found, name, {"type": "other", "data": "left out"}, *numbers(1))
        await close(found, name)
    code, out, _ = await reprise(tmp_path, *shlex.split(sentence[1]))
    assert code == 0
    assert sorted(out.splitlines()) == sorted(2 * [*map(str, range(PART, 2 * PART)), '{"result":null}'])


async def test_where_to_begin_and_what_to_show_holds_for_each_of_several_streams(
    tmp_path: Path, found: Product, stream: str
) -> None:
    names = (f"{stream}.a", f"{stream}.b")
    for name in names:
        await publish(found, name, {"type": "note", "data": f"old {name}", "key": "k"})
        await publish(found, name, {"type": "token", "append": "Hel"}, {"type": "token", "append": "lo"})
        await publish(found, name, {"type": "note", "data": f"new {name}", "key": "k"})
        await close(found, name)
    text, end = ['{"text":"Hel"}', '{"text":"lo"}'], '{"result":null}'
    for options, shown in (
        (["--from", "earliest"], ["old {}", *text, "new {}", end]),
        (["--since", "1d"], ["old {}", *text, "new {}", end]),
        (["--last", "2"], ["new {}", end]),
        (["--type", "token"], [*text, end]),
        (["--type", "token", "--type", "note", "--last", "3"], [text[1], "new {}", end]),
        (["--compact"], ['{"text":"Hello"}', "new {}", end]),
        (["--from", "latest"], []),
        (["--since", "2999-01-01T00:00:00Z"], []),
    ):
        code, out, errors = await reprise(tmp_path, "tail", *names, *options, "--json", "--url", found.url)
        assert (code, errors) == (0, "" if shown else f"{NOTHING_MORE}\n"), options
        events = [json.loads(line) for line in out.splitlines()]
        for name in names:
            data = [event["data"] for event in events if event["stream"] == name]
            assert data == [each.replace("{}", name) for each in shown], options
    for options, sentence in (
        (["--from", "1-0"], r"The server refuses \(400\): The cursor part '1-0' names no stream of this request"),
        (["--last", "0"], r"The server refuses \(400\): 'last' is '0'"),
        ([f"s.{number}" for number in range(31)], r"The server refuses \(400\): There are 33 streams\."),
    ):
        code, out, errors = await reprise(tmp_path, "tail", *names, *options, "--url", found.url)
        assert (code, out, errors.count("\n")) == (1, "", 1), errors
        assert re.match(f"reprise: {sentence}", errors), errors


async def test_a_stream_that_was_deleted_meanwhile_ends_among_others_and_the_command_with_the_last_of_them(
    tmp_path: Path, found: Product, stream: str
) -> None:
    gone, other = f"{stream}.a", f"{stream}.b"
    [first] = await publish(found, gone, {"type": "n", "data": 1})
    async with http_client(found.url) as http:
        (await http.delete(f"/streams/{gone}")).raise_for_status()
    since = ("--from", f"{gone}:{first},{other}:0-0")
    async with command(tmp_path, "tail", gone, other, *since, "--json", "--url", found.url) as tail:
        await tail.has(1)
        await close(found, other)
        assert await tail.ended() == 0, tail.errors
    shown = [json.loads(line) for line in tail.lines]
    assert [(event["stream"], event["type"]) for event in shown] == [(gone, "cancelled"), (other, "complete")]


async def test_that_there_is_nothing_to_show_is_told(tmp_path: Path, found: Product, stream: str) -> None:
    await publish(found, stream, *numbers(0))
    end = await close(found, stream)
    for options in (["--from", "latest"], ["--from", end]):
        code, out, errors = await reprise(tmp_path, "tail", stream, *options, "--url", found.url)
        assert (code, out, errors) == (0, "", f"{NOTHING_MORE}\n")
    async with http_client(found.url) as http:
        (await http.delete(f"/streams/{stream}")).raise_for_status()
    assert await reprise(tmp_path, "tail", stream, "--url", found.url) == (0, "", f"{NOTHING_MORE}\n")


async def test_a_terminal_gets_colours_by_type_and_nothing_that_controls_it(
    tmp_path: Path, found: Product, stream: str
) -> None:
    text = "\x1b]0;mine\x07 :fire: [bold]x[/] \x9b31m \u202egnp\u2066"
    await publish(found, stream, {"type": "note", "data": text}, {"type": "token", "data": "x"})
    await close(found, stream)
    code, sent = await on_terminal(tmp_path, "tail", stream, "--url", found.url)
    assert code == 0
    shown = "\\x1b]0;mine\\x07 :fire: [bold]x[/] \\x9b31m \\u202egnp\\u2066"
    assert shown in sent
    colours = {kind: colour for colour, kind in re.findall(r"\x1b\[([0-9;]+)m(note|token|complete)\x1b", sent)}
    assert len(set(colours.values())) == 3
    _, as_json, _ = await reprise(tmp_path, "tail", stream, "--json", "--url", found.url)
    assert json.loads(as_json.splitlines()[0])["data"] == text
    assert not set(as_json) & {"\x1b", "\x07", "\x9b", "\u202e", "\u2066"}
    _, raw_at_a_terminal = await on_terminal(tmp_path, "tail", stream, "--raw", "--url", found.url)
    assert raw_at_a_terminal.splitlines() == [shown, "x", '{"result":null}']
    _, raw, _ = await reprise(tmp_path, "tail", stream, "--raw", "--url", found.url)
    assert raw.splitlines()[0] == text


async def test_ctrl_c_prints_the_command_that_shows_exactly_the_rest(
    tmp_path: Path, found: Product, stream: str
) -> None:
    await publish(found, stream, *numbers(0))
    async with command(tmp_path, "tail", stream, "--raw", "--url", found.url) as tail:
        await tail.has(PART)
        tail.interrupt()
        assert await tail.ended() == 130
    sentence = re.fullmatch(r"reprise: Interrupted\. To go on from here: reprise (.*)\n", tail.errors)
    assert sentence, tail.errors
    await publish(found, stream, *numbers(1))
    await close(found, stream)
    code, out, _ = await reprise(tmp_path, *shlex.split(sentence[1]))
    assert code == 0
    assert out.splitlines() == [*(str(number) for number in range(PART, 2 * PART)), '{"result":null}']


async def test_where_nobody_reads_the_pipe_it_ends_without_a_word(tmp_path: Path, found: Product, stream: str) -> None:
    await publish(found, stream, *numbers(0))
    assert await for_nobody(tmp_path, "tail", stream, "--url", found.url) == (141, "")


async def test_what_the_server_refuses_is_its_sentence_with_exit_code_1(
    tmp_path: Path, found: Product, stream: str
) -> None:
    for words, sentence in (
        (["/tasks/nobody/events"], r"The server refuses \(404\): .*nobody"),
        (["tasks.nobody"], r"The server refuses \(404\): There is no stream 'tasks\.nobody'"),
        ([stream, "--from", "x"], r"The server refuses \(400\): .*'x'"),
        ([stream, "--last", "-1"], r"The server refuses \(400\): 'last' is '-1'\."),
        (["/health/live"], "What is at .*/health/live is no event stream"),
        (["/nowhere"], r"The server refuses \(404\): "),
    ):
        code, out, errors = await reprise(tmp_path, "tail", *words, "--url", found.url)
        assert (code, out, errors.count("\n")) == (1, "", 1), (words, errors)
        assert re.match(f"reprise: {sentence}", errors), errors


async def test_several_streams_are_one_response_that_ends_with_the_last_of_them(tmp_path: Path) -> None:
    gap = {"stream": "b", "requested": "1-1", "resumed_at": "1-5", "missed": 3}
    async with scripted(
        STREAM_HEAD
        + frame("a:1-0,b:0-0", "position", {})
        + frame("b:1-1,a:1-0", "note", 1)
        + frame("a:1-1,b:1-1", "complete", {}),
        STREAM_HEAD
        + b"event: gap\ndata: " + json.dumps(gap).encode() + b"\n\n"
        + frame("b:1-4,a:1-1", "position", {})
        + frame("b:1-5,a:1-1", "cancelled", {}),
    ) as (script, url):  # fmt: skip
        words = ("tail", "a", "b", "a", "--type", "note", "--since", "1795343970123", "--json", "--url", url)
        code, out, errors = await reprise(tmp_path, *words)
    assert code == 0
    assert script.asked[0].startswith("GET /events?stream=a&stream=b&since=1795343970123&type=note HTTP/1.1\r\n")
    assert script.cursors == ["", "a:1-1,b:1-1"]
    assert [(event["stream"], event["id"], event["type"]) for event in map(json.loads, out.splitlines())] == [
        ("b", "b:1-1,a:1-0", "note"),
        ("a", "a:1-1,b:1-1", "complete"),
        ("b", None, "gap"),
        ("b", "b:1-5,a:1-1", "cancelled"),
    ]
    assert "reprise: gap: 3 events of b are missing here, after 1-1\n" in errors


async def test_why_a_server_cannot_be_reached_is_told_once_however_often_it_is_tried(tmp_path: Path) -> None:
    retry = STREAM_HEAD + b"retry: 1\n\n"
    async with scripted(retry, retry, retry, STREAM_HEAD + frame("1-0", "complete", {})) as (script, url):
        code, _, errors = await reprise(tmp_path, "tail", "a", "--url", url)
    assert (code, len(script.asked)) == (0, 4)
    assert errors.splitlines() == [
        "reprise: the server ended the response; connecting again",
        "reprise: connected again, and going on where it was",
    ]


async def test_the_end_of_the_one_stream_of_an_address_that_does_not_name_it_is_the_end(tmp_path: Path) -> None:
    async with scripted(
        STREAM_HEAD + frame("tasks.t1:0-0", "position", {}) + frame("tasks.t1:1-2", "complete", {})
    ) as (script, url):
        result = await reprise(tmp_path, "tail", "/stream/countdown/2", "--url", url)
    assert result == (0, "tasks.t1 complete {}\n", "")
    assert len(script.asked) == 1


async def test_who_refuses_a_connection_is_told_without_an_errno(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        async with scripted(STREAM_HEAD + frame("1-0", "log", 1)) as (_, url):
            tail = await stack.enter_async_context(command(tmp_path, "tail", "a", "--url", url))
            await tail.has(1)
        await tail.said(f"reprise: {url} cannot be reached (connection refused); connecting again\n")


async def test_204_is_the_end_and_why_a_server_sends_a_reader_away_is_told(tmp_path: Path) -> None:
    stalled = {"stream": "tasks.t1", "since": "2026-11-26T10:00:00.000Z", "reason": "worker_lost"}
    async with scripted(
        STREAM_HEAD + b": Redis is away.\n\n",
        answer("502 Bad Gateway"),
        answer("429 Too Many Requests"),
        STREAM_HEAD + frame("1-0", "log", 1) + b"event: stalled\ndata: " + json.dumps(stalled).encode() + b"\n\n",
        answer("204 No Content"),
    ) as (script, url):
        code, out, errors = await reprise(tmp_path, "tail", "/tasks/t1/events", "--url", url)
    assert (code, out) == (0, "log 1\n")
    assert script.cursors == ["", "", "", "", "1-0"]
    assert errors.splitlines() == [
        "reprise: the server says: Redis is away; connecting again",
        "reprise: the server answers with status 502; connecting again",
        "reprise: the server answers with status 429; connecting again",
        "reprise: connected again, and going on where it was",
        f"reprise: stalled: nobody writes tasks.t1 since {stalled['since']}; waiting for its worker or another one",
        "reprise: the server ended the response; connecting again",
    ]


async def test_a_connection_that_is_silent_for_three_heartbeats_is_replaced(tmp_path: Path) -> None:
    is_over = asyncio.Event()

    async def never() -> bytes:
        await is_over.wait()
        return b""

    async with scripted(never, STREAM_HEAD + frame("1-0", "complete", {})) as (_, url):
        code, _, errors = await reprise(tmp_path, "tail", "a", "--heartbeat", "0.2", "--url", url)
        is_over.set()
    assert code == 0
    assert errors.splitlines() == [
        "reprise: nothing has come for 0.6 s, not even a heartbeat; connecting again",
        "reprise: connected again, and going on where it was",
    ]


async def test_an_address_that_has_moved_is_told(tmp_path: Path) -> None:
    async with scripted(answer("308 Permanent Redirect", None, "location: https://there/")) as (_, url):
        code, _, errors = await reprise(tmp_path, "tail", "a", "--url", url)
    assert (code, errors.count("\n")) == (1, 1)
    assert "(308): It has moved. Use the new address: https://there/" in errors


async def test_no_server_is_one_sentence_with_exit_code_2(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    code, _, errors = await reprise(tmp_path, "tail", "chat", "--url", url)
    assert code == 2
    assert errors.startswith(f"reprise: Nothing answers at {url}")
    assert errors.count("\n") == 1

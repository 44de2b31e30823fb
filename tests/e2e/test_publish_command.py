"""`reprise publish` against servers that die, refuse and answer late: what is stored, and what it says of that."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.commands import command, for_nobody, on_terminal
from tests.e2e.dev_run import reprise
from tests.e2e.product import Product
from tests.e2e.scripted import answer, scripted
from tests.support.http import http_client
from tests.support.ports import unused_port

LINES = 2000

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def history(found: Product, stream: str) -> list[dict[str, Any]]:
    """Everything in the stream, oldest first."""
    events: list[dict[str, Any]] = []
    path = f"/streams/{stream}/history?limit=1000"
    async with http_client(found.url) as http:
        while path:
            response = (await http.get(path)).raise_for_status()
            events += response.json()["events"]
            path = response.links.get("next", {}).get("url", "")
    return events


async def stored(found: Product, stream: str) -> list[tuple[str, str]]:
    return [(event["type"], event["data"]) for event in await history(found, stream)]


class Forgetful:
    """Passes each request on to a server, and the first answer under each key to nobody."""

    def __init__(self, upstream: str) -> None:
        self.keys: list[str] = []
        self._upstream = http_client(upstream)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = {name.lower(): value for name, value in re.findall(r"^([\w-]+): (.*)\r$", head, re.MULTILINE)}
        body = await reader.readexactly(int(fields["content-length"]))
        key = fields["idempotency-key"]
        response = await self._upstream.post(
            head.split()[1],
            content=body,
            headers={"content-type": fields["content-type"], "idempotency-key": key},
        )
        if key in self.keys:
            writer.write(answer(f"{response.status_code} Passed", response.json()))
        self.keys.append(key)
        writer.close()
        await writer.wait_closed()

    async def aclose(self) -> None:
        await self._upstream.aclose()


@asynccontextmanager
async def forgetful(upstream: str) -> AsyncGenerator[tuple[Forgetful, str]]:
    proxy = Forgetful(upstream)
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
        yield proxy, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await proxy.aclose()


async def test_each_line_is_stored_once_and_in_order_although_the_server_is_killed_in_the_middle(
    tmp_path: Path, found: Product, stream: str
) -> None:
    server = found.servers[0]
    async with command(tmp_path, "publish", stream, "--ids", "--url", found.url) as publishing:
        for number in range(LINES):
            await publishing.feed(f"row {number}\n".encode())
            if number in {LINES // 4, LINES // 2}:
                await publishing.has(LINES // 8)
                await server.kill()
                await server.start()
        assert await publishing.ended() == 0, publishing.errors
        ids = publishing.lines
    events = await history(found, stream)
    assert [event["data"] for event in events] == [f"row {number}" for number in range(LINES)]
    assert [event["id"] for event in events] == ids
    assert "trying again" in publishing.errors


async def test_lines_whose_answers_are_lost_are_stored_once_and_few_requests_carry_many_of_them(
    tmp_path: Path, found: Product, stream: str
) -> None:
    rows = [f"row {number}" for number in range(LINES)]
    async with (
        forgetful(found.url) as (proxy, url),
        command(tmp_path, "publish", stream, "--type", "row", "--url", url) as publishing,
    ):
        await publishing.feed("\n".join(rows).encode())
        assert await publishing.ended() == 0, publishing.errors
    assert await stored(found, stream) == [("row", row) for row in rows]
    assert {proxy.keys.count(key) for key in proxy.keys} == {2}
    assert len(proxy.keys) < LINES / 10


async def test_a_slow_line_is_stored_before_the_next_one_comes(tmp_path: Path, found: Product, stream: str) -> None:
    async with command(tmp_path, "publish", stream, "--ids", "--url", found.url) as publishing:
        for number in range(1, 4):
            await publishing.feed(f"{number}\nhalf of ".encode())
            await publishing.has(number)
            assert len(await history(found, stream)) == number
        assert await publishing.ended() == 0
    assert [data for _, data in await stored(found, stream)] == ["1", "half of 2", "half of 3", "half of "]


async def test_what_is_told_on_the_command_line_is_what_readers_get(
    tmp_path: Path, found: Product, stream: str
) -> None:
    for words in (
        ["Hello 你好", "--type", "note"],
        ["up", "--key", "state"],
        ["--append", "--type", "token", "to be "],
        ["--append", "--type", "token", "or not"],
        ["--json", '{"type": "point",\n "data": {"x": 1}}'],
        ["--close", "bye"],
    ):
        code, out, errors = await reprise(tmp_path, "publish", stream, *words, "--url", found.url)
        assert (code, out, errors) == (0, "", "")
    assert await stored(found, stream) == [
        ("note", "Hello 你好"),
        ("message", "up"),
        ("token", '{"text":"to be "}'),
        ("token", '{"text":"or not"}'),
        ("point", '{"x":1}'),
        ("message", "bye"),
        ("complete", '{"result":null}'),
    ]
    code, _, errors = await reprise(tmp_path, "publish", stream, "late", "--url", found.url)
    assert code == 1
    assert re.fullmatch(rf"reprise: The server refuses \(409\): .*'{stream}'.* Nothing is stored\.\n", errors)


async def test_lines_are_texts_with_their_line_ends_where_they_are_appended(
    tmp_path: Path, found: Product, stream: str
) -> None:
    text = "to be\r\n\nor not \u2028 to be"
    for name, options in ((stream, []), (f"{stream}.text", ["--append", "--type", "token"])):
        async with command(tmp_path, "publish", name, *options, "--url", found.url) as publishing:
            await publishing.feed(text.encode())
            assert await publishing.ended() == 0
    assert [data for _, data in await stored(found, stream)] == ["to be", "", "or not \u2028 to be"]
    appended = [json.loads(data)["text"] for _, data in await stored(found, f"{stream}.text")]
    assert "".join(appended) == text.replace("\r\n", "\n")


async def test_a_person_at_a_terminal_sees_how_many_lines_are_stored(
    tmp_path: Path, found: Product, stream: str
) -> None:
    rows = tmp_path / stream
    rows.write_bytes(b"".join(b"row %d\n" % number for number in range(LINES)))
    ids = tmp_path / "ids"
    words = ("publish", stream, "--ids", "--url", found.url)
    code, sent = await on_terminal(tmp_path, *words, stdin=rows, stdout=ids)
    assert code == 0
    assert "1,000 lines stored" in sent
    assert ids.read_text().splitlines() == [event["id"] for event in await history(found, stream)]
    assert re.search(r"2,000 lines stored\S*\r\n\Z", sent)


async def test_where_nobody_reads_the_ids_it_tells_what_is_stored(tmp_path: Path, found: Product, stream: str) -> None:
    rows = tmp_path / stream
    rows.write_bytes(b"1\n2\n3\n")
    code, errors = await for_nobody(tmp_path, "publish", stream, "--ids", "--url", found.url, stdin=rows)
    said = "Lines 1 to 3 are stored; nothing from line 4 on is stored."
    assert (code, errors) == (141, f"reprise: Nobody reads the ids any more. {said}\n")


BAD_LINES = [
    (b'{"type": "a b", "data": 1}', r"is refused \(422\): type: 'a b' is not an event type\."),
    (b'{"type": "complete"}', r"is refused \(422\): type: .*Reprise's own"),
    (b'{"data": 1, "data": 2}', r"is refused \(400\): data: The member 'data' is there more than once\."),
    (b'{"data": 1e999}', r"is refused \(400\): data: The number 1e999 is too large\."),
    (b'{"data": "' + b"x" * 300_000 + b'"}', r"is refused \(413\): data: "),
    (b'{"data": ' + b"[" * 150 + b"]" * 150 + b"}", r"is refused \(400\): data(/0){30}…: This is nested deeper"),
    (b"[" * 50_000, r"is refused \(400\): This is nested deeper"),
    (b"note", r"is not JSON: expecting value at column 1\."),
    (b"[1]", r"is no JSON object such as "),
    (b'{"data": "\xff"}', r"is not UTF-8: the byte 0xff at place 11 is no text\."),
]


async def test_everything_before_a_bad_line_is_stored_and_nothing_from_it_on(
    tmp_path: Path, found: Product, stream: str
) -> None:
    good = [b'{"data": %d}' % number for number in range(5)]
    rows = tmp_path / stream
    for number, (line, sentence) in enumerate(BAD_LINES):
        rows.write_bytes(b"\n".join([*good[:2], b"", good[2], line, *good[3:], line, b""]))
        words = ("publish", f"{stream}.{number}", "--json", "--url", found.url)
        code, _, errors = await reprise(tmp_path, *words, stdin=rows)
        assert (code, errors.count("\n")) == (1, 1), errors
        assert re.match(f"reprise: Line 5 {sentence}", errors), errors
        assert errors.endswith("Lines 1 to 4 are stored; nothing from line 5 on is stored.\n")
        assert [data for _, data in await stored(found, f"{stream}.{number}")] == ["0", "1", "2"]


async def test_the_same_command_again_under_its_own_key_stores_nothing_twice(
    tmp_path: Path, found: Product, stream: str
) -> None:
    for rows in (b"1\n2\n", b"1\n2\n3\n4\n"):
        async with command(tmp_path, "publish", stream, "--idempotency-key", "k 1", "--url", found.url) as publishing:
            await publishing.feed(rows)
            assert await publishing.ended() == 0, publishing.errors
    for _ in range(2):
        code, _, _ = await reprise(tmp_path, "publish", stream, "5", "--idempotency-key", "k 2", "--url", found.url)
        assert code == 0
    assert [data for _, data in await stored(found, stream)] == ["1", "2", "3", "4", "5"]


async def test_input_that_is_empty_is_told_and_a_key_that_had_another_line_is_refused(
    tmp_path: Path, found: Product, stream: str
) -> None:
    code, _, errors = await reprise(tmp_path, "publish", stream, "--url", found.url)
    assert (code, errors) == (0, "reprise: stdin was empty: nothing is stored\n")
    blank = tmp_path / "blank"
    blank.write_text("\n\n")
    code, _, errors = await reprise(tmp_path, "publish", stream, "--json", "--url", found.url, stdin=blank)
    assert (code, errors) == (0, "reprise: stdin held empty lines only: nothing is stored\n")
    rows = tmp_path / stream
    for text in ("1\n2\n", "1\nother\n"):
        rows.write_text(text)
        words = ("publish", stream, "--idempotency-key", stream, "--url", found.url)
        code, _, errors = await reprise(tmp_path, *words, stdin=rows)
    assert code == 1
    assert re.match(r"reprise: Line 2 is refused \(409\): This idempotency key was used with other events\.", errors)
    assert errors.endswith(" Line 1 is stored; nothing from line 2 on is stored.\n")
    assert [data for _, data in await stored(found, stream)] == ["1", "2"]


async def test_a_sentence_of_the_server_keeps_the_mark_it_ends_with(
    tmp_path: Path, found: Product, stream: str
) -> None:
    words = ("publish", stream, "--json", '{"type": "note", "dat": 1}', "--url", found.url)
    code, _, errors = await reprise(tmp_path, *words)
    assert code == 1
    assert errors.endswith("Did you mean 'data'? Nothing is stored.\n")


async def test_ctrl_c_tells_up_to_where_all_is_stored(tmp_path: Path, found: Product, stream: str) -> None:
    async with command(tmp_path, "publish", stream, "--ids", "--url", found.url) as publishing:
        await publishing.feed(b"1\n2\n3\n4")
        await publishing.has(3)
        publishing.interrupt()
        assert await publishing.ended() == 130
    said = "reprise: Interrupted. Lines 1 to 3 are stored; nothing from line 4 on is stored.\n"
    assert publishing.errors == said
    assert len(await history(found, stream)) == 3


async def test_ctrl_c_asks_once_more_what_became_of_the_lines_under_way(tmp_path: Path) -> None:
    async with (
        scripted(
            answer("201 Created", {"ids": ["1-0"]}),
            answer("503 Service Unavailable", {"detail": "Redis is away."}, "retry-after: 5"),
            answer("201 Created", {"ids": ["1-1"]}),
        ) as (script, url),
        command(tmp_path, "publish", "rows", "--ids", "--url", url) as publishing,
    ):
        await publishing.feed(b"1\n")
        await publishing.has(1)
        await publishing.feed(b"2\n")
        await publishing.said("Redis is away; trying again")
        publishing.interrupt()
        assert await publishing.ended() == 130
    assert publishing.lines == ["1-0", "1-1"]
    assert "Lines 1 to 2 are stored; nothing from line 3 on is stored." in publishing.errors
    keys = [line for text in script.asked for line in text.splitlines() if line.startswith("idempotency-key")]
    assert (keys[0] != keys[1], keys[1] == keys[2]) == (True, True)


async def test_a_server_that_stays_away_leaves_it_open_what_became_of_the_lines_under_way(tmp_path: Path) -> None:
    busy = answer("503 Service Unavailable", {"detail": "Redis is away."}, "retry-after: 1")
    async with (
        scripted(answer("201 Created", {"ids": ["1-0"]}), busy) as (_, url),
        command(tmp_path, "publish", "rows", "--ids", "--patience", "0.1", "--url", url) as publishing,
    ):
        await publishing.feed(b"1\n")
        await publishing.has(1)
        await publishing.feed(b"2\n")
        assert await publishing.ended() == 1
    said = "Line 1 is stored; whether line 2 is stored is not known; nothing from line 3 on is stored."
    assert publishing.errors == f"reprise: The server refuses (503): Redis is away. {said}\n"


async def test_what_redis_has_refused_is_not_stored_and_advice_for_clients_is_not_passed_on(tmp_path: Path) -> None:
    document = {"detail": "Redis takes nothing (OOM). Nothing is stored. Send it again later.", "code": "not_stored"}
    async with scripted(answer("503 Service Unavailable", document, "retry-after: 1")) as (_, url):
        code, _, errors = await reprise(tmp_path, "publish", "rows", "1", "--patience", "0.1", "--url", url)
    assert code == 1
    assert errors == "reprise: The server refuses (503): Redis takes nothing (OOM). Nothing is stored.\n"


async def test_a_batch_that_is_refused_without_a_place_is_halved_until_the_line_is_found(tmp_path: Path) -> None:
    refused = answer("413 Content Too Large", {"detail": "Too large."})
    async with scripted(
        refused,
        answer("201 Created", {"ids": ["1-0", "1-1"]}),
        refused,
        answer("201 Created", {"ids": ["1-2"]}),
        refused,
    ) as (script, url):
        rows = tmp_path / "rows"
        rows.write_text("a\nb\nc\nd\n")
        code, _, errors = await reprise(tmp_path, "publish", "rows", "--url", url, stdin=rows)
    assert code == 1
    assert errors == (
        "reprise: Line 4 is refused (413): Too large. Lines 1 to 3 are stored; nothing from line 4 on is stored.\n"
    )
    assert [re.findall(r'"data": "(.)"', text) for text in script.asked] == [
        ["a", "b", "c", "d"],
        ["a", "b"],
        ["c", "d"],
        ["c"],
        ["d"],
    ]


async def test_no_server_is_one_sentence_with_exit_code_2(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    code, _, errors = await reprise(tmp_path, "publish", "chat", "x", "--url", url)
    assert code == 2
    assert errors.startswith(f"reprise: Nothing answers at {url}")
    assert errors.count("\n") == 1


async def test_a_server_that_is_not_ours_is_one_sentence(tmp_path: Path) -> None:
    async with scripted(answer("201 Created", [1])) as (_, url):
        code, _, errors = await reprise(tmp_path, "publish", "chat", "x", "--url", url)
    assert code == 1
    assert "is not Reprise" in errors
    assert errors.count("\n") == 1

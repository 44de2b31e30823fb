"""Bad input to open streams: the right status, a sentence that helps, and nothing stored."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from server.streams.connections import AsyncClient, execute
from tests.support.open_streams import JSON, NDJSON, events, problem, publish
from tests.support.web import Web

PATH = "/streams/chat/events"


async def nothing_stored(web: Web) -> bool:
    return not await events(web) and not (await web.client.get("/streams")).json()["streams"]


async def refused(web: Web, content: bytes, status: int, *, headers: dict[str, str] = JSON) -> dict[str, Any]:
    document = problem(await web.client.post(PATH, content=content, headers=headers), status)
    assert await nothing_stored(web)
    return document


@pytest.mark.parametrize("headers", [JSON, NDJSON])
@pytest.mark.parametrize("content", [b"", b"\n", b"  \r\n\n"])
async def test_an_empty_body_is_refused(web: Web, content: bytes, headers: dict[str, str]) -> None:
    document = await refused(web, content, 400 if headers is JSON else 422, headers=headers)
    assert "Send " in document["detail"]


async def test_an_empty_batch_and_an_empty_event_are_refused(web: Web) -> None:
    assert "no event" in (await refused(web, b"[]", 422))["detail"]
    assert [each["pointer"] for each in (await refused(web, b"{}", 422))["errors"]] == ["#"]
    assert [each["pointer"] for each in (await refused(web, b'[{"data":1},{}]', 422))["errors"]] == ["#/1"]


@pytest.mark.parametrize(
    ("member", "pointer", "words"),
    [
        (7, "", "7 is no event"),
        ("text", "", "'text' is no event"),
        (None, "", "null is no event"),
        ([{"data": 1}], "", "is no event"),
        ({"type": "", "data": 1}, "/type", "'' is not an event type"),
        ({"type": "a b", "data": 1}, "/type", "Use 1 to 128 of A-Z a-z 0-9 . _ : -"),
        ({"type": "a\nb", "data": 1}, "/type", "is not an event type"),
        ({"type": "a\0b", "data": 1}, "/type", "NUL"),
        ({"type": "é", "data": 1}, "/type", "is not an event type"),
        ({"type": "t" * 129, "data": 1}, "/type", "is not an event type"),
        ({"type": None, "data": 1}, "/type", "null is not an event type"),
        ({"type": ["t"], "data": 1}, "/type", '["t"] is not an event type'),
        *(
            ({"type": name, "data": 1}, "/type", "is Reprise's own")
            for name in ("attempt", "checkpoint", "complete", "error", "cancelled")
        ),
        *(
            ({"type": name, "data": 1}, "/type", "is Reprise's own")
            for name in ("position", "gap", "stalled", "heartbeat", "open")
        ),
        ({"data": "a\0b"}, "/data", "holds NUL"),
        ({"append": "a\0b"}, "/append", "holds NUL"),
        ({"append": 7}, "/append", "7 is not text to be appended"),
        ({"append": "a", "data": 1}, "/data", "'data' or 'append'"),
        ({"append": "a", "key": "k"}, "/key", "'key' or 'append'"),
        ({"data": 1, "key": ""}, "/key", "Use 1 to 128 printable characters"),
        ({"data": 1, "key": "k" * 129}, "/key", "Use 1 to 128 printable characters"),
        ({"data": 1, "key": "a\nb"}, "/key", "Use 1 to 128 printable characters"),
        ({"data": 1, "key": 5}, "/key", "5 is not the key of an event"),
        ({"dta": 1}, "/dta", "Did you mean 'data'?"),
        ({"data": 1, "id": "1-1"}, "/id", "Known are append, data, key, type"),
    ],
)
async def test_one_bad_member_is_named_with_its_place_and_nothing_of_its_batch_is_stored(
    web: Web, member: Any, pointer: str, words: str
) -> None:
    good = {"type": "note", "data": 1}
    alone = json.dumps(member).encode()
    batch = json.dumps([good, good, member, good]).encode()
    lines = "\n".join(map(json.dumps, [good, good, member, good])).encode()
    cases = [(alone, "#", JSON), (batch, "#/2", JSON), (lines, "#/2", NDJSON)]
    for content, at, headers in cases if not isinstance(member, list) else cases[1:]:
        document = await refused(web, content, 422, headers=headers)
        assert [each["pointer"] for each in document["errors"]] == [at + pointer]
        assert words in document["errors"][0]["detail"]
        assert words in document["detail"]


async def test_every_bad_member_is_named(web: Web) -> None:
    document = await refused(web, json.dumps([{"type": "a b"}, {"data": 1}, {"append": 1}]).encode(), 422)
    assert [each["pointer"] for each in document["errors"]] == ["#/0/type", "#/2/append"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "line 1, column 2"),
        (b"data=1", "not JSON"),
        (b'{"data": "\xff"}', "not UTF-8: byte 10, in line 1,"),
        (b'{"data": NaN}', "NaN is no JSON value"),
        (b'{"data": 1e999}', "too large"),
        (b'{"data": 1, "data": 2}', "'data' is there more than once"),
        (b'{"data": {"a": 1, "a": 2}}', "'a' is there more than once"),
        (b'{"data": "\\ud800"}', "half of a character"),
        (b'{"data": ' + b"[" * 300 + b"]" * 300 + b"}", "deeper than 100"),
        (b"[" * 100_000, "deeper than 100"),
        (b'{"data": 1} {"data": 2}', "extra data"),
    ],
)
async def test_what_is_no_usable_json_is_refused(web: Web, content: bytes, words: str) -> None:
    assert words in (await refused(web, content, 400))["detail"]


@pytest.mark.parametrize("innermost", [b"", b"1", b'"text"'])
async def test_an_event_has_a_hundred_levels_wherever_it_stands_and_its_own_braces_are_the_first(
    web: Web, innermost: bytes
) -> None:
    def nested(levels: int) -> bytes:
        return b'{"data": ' + b"[" * (levels - 1) + innermost + b"]" * (levels - 1) + b"}"

    deep, good = nested(101), nested(100)
    for content, at, headers in (
        (deep, "#/data", JSON),
        (b"[%b,%b]" % (good, deep), "#/1/data", JSON),
        (deep, "#/0/data", NDJSON),
    ):
        document = await refused(web, content, 400, headers=headers)
        assert [each["pointer"] for each in document["errors"]] == [at + "/0" * 99]
    for content, headers in ((good, JSON), (b"[%b]" % good, JSON), (good, NDJSON)):
        assert (await web.client.post(PATH, content=content, headers=headers)).status_code == 201


@pytest.mark.parametrize(
    ("line", "words", "pointers"),
    [
        (b"{", "line 3, column 2", ["#/1"]),
        (b'{"data": "\xff"}', "not UTF-8: byte 36, in line 3,", ["#/1"]),
        (b'{"data": NaN}', "1/data: NaN is no JSON value", ["#/1/data"]),
        (b'{"data": 1, "data": 2}', "more than once", ["#/1/data"]),
        (b'{"data":1}{"data":2}', "extra data at line 3, column 11", ["#/1"]),
    ],
)
async def test_a_bad_line_is_told_by_its_number(web: Web, line: bytes, words: str, pointers: list[str]) -> None:
    document = await refused(web, b'{"data": 1, "type": "n"}\n' + b"\n" + line + b"\n", 400, headers=NDJSON)
    assert words in document["detail"]
    assert [each["pointer"] for each in document.get("errors", [])] == pointers


async def test_a_batch_of_more_than_a_thousand_is_refused(web: Web) -> None:
    event = {"data": 1}
    assert "1001 events, of 1000" in (await refused(web, json.dumps([event] * 1001).encode(), 413))["detail"]
    lines = b"\n".join([b'{"data":1}'] * 1001)
    assert "1001 events, of 1000" in (await refused(web, lines, 413, headers=NDJSON))["detail"]


@pytest.mark.parametrize("event", [{"data": "x" * 262_145}, {"data": ["é" * 131_072]}, {"append": "x" * 262_144}])
async def test_an_event_too_large_is_named(web: Web, event: dict[str, str]) -> None:
    document = await refused(web, json.dumps([{"data": 1}, event]).encode(), 413)
    assert document["errors"][0]["pointer"].startswith("#/1/")
    assert "the limit is 262144 (REPRISE_MAX_EVENT_BYTES)" in document["detail"]


@pytest.mark.parametrize("declares", [True, False])
async def test_a_body_too_large_is_refused_while_it_is_read(web: Web, declares: bool) -> None:
    request = web.client.build_request("POST", PATH, content=b" " * 1_576_959 + b"{}", headers=JSON)
    if not declares:
        del request.headers["content-length"]
    assert "1576960 bytes all together" in problem(await web.client.send(request), 413)["detail"]
    assert await nothing_stored(web)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "text/event-stream", None])
async def test_another_content_type_is_refused(web: Web, content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    detail = (await refused(web, b'{"data": 1}', 415, headers=headers))["detail"]
    assert "application/json" in detail
    assert "application/x-ndjson" in detail


@pytest.mark.parametrize("key", ["", "x" * 256, "a\x7fb", "é"])
async def test_an_unusable_idempotency_key_is_refused(web: Web, key: str) -> None:
    response = await web.client.post(PATH, json={"data": 1}, headers={b"idempotency-key": key.encode("latin-1")})
    assert "1 to 255 printable ASCII characters" in problem(response, 400)["detail"]
    assert await nothing_stored(web)


NAMES = ["%2e%2e", "%00", "%0a", "a%01b", "%7f", "a b", "%C3%A9", "x" * 129, ".a", "-a", "a%2Cb", "a:b", "a{b}"]


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_that_breaks_the_rule_is_refused(web: Web, name: str) -> None:
    detail = problem(await web.client.post(f"/streams/{name}/events", json={"data": 1}), 422)["detail"]
    assert "Use 1 to 128 of A-Z a-z 0-9 . _ -" in detail
    problem(await web.client.put(f"/streams/{name}", json={}), 422)
    problem(await web.client.post(f"/streams/{name}/close"), 422)
    problem(await web.client.delete(f"/streams/{name}"), 422)
    problem(await web.client.get(f"/streams/{name}"), 404)
    problem(await web.client.get(f"/streams/{name}/history"), 404)
    assert await nothing_stored(web)


@pytest.mark.parametrize("name", ["a%2Fb", "..%2fb", "a/b", ""])
async def test_a_name_with_a_slash_names_no_stream(web: Web, name: str) -> None:
    url = httpx.URL("http://test").copy_with(raw_path=f"/streams/{name}/events".encode())
    problem(await web.client.post(url, json={"data": 1}), 404)
    assert await nothing_stored(web)


@pytest.mark.parametrize("name", ["system", "tasks", "tasks.abc", "tasks."])
async def test_reprises_own_streams_are_not_for_others_to_change(web: Web, client: AsyncClient, name: str) -> None:
    before = await execute(client, "DBSIZE")
    for response in (
        await web.client.post(f"/streams/{name}/events", json={"data": 1}),
        await web.client.put(f"/streams/{name}", json={}),
        await web.client.post(f"/streams/{name}/close"),
        await web.client.delete(f"/streams/{name}"),
    ):
        assert "is Reprise's own" in problem(response, 403)["detail"]
    assert await execute(client, "DBSIZE") == before


async def test_publishing_after_the_close_is_refused(web: Web) -> None:
    await publish(web, {"data": 1})
    await web.client.post("/streams/chat/close")
    assert "is closed" in problem(await web.client.post(PATH, json={"data": 2}), 409)["detail"]
    assert [event["type"] for event in await events(web)] == ["message", "complete"]


@pytest.mark.parametrize(
    ("body", "pointer", "words"),
    [
        ({"max_events": 0}, "#/max_events", "0 is not a number of events"),
        ({"max_events": 1_000_001}, "#/max_events", "from 1 to 1000000"),
        ({"max_events": "5"}, "#/max_events", "'5'"),
        ({"max_events": True}, "#/max_events", "true"),
        ({"max_events": 1.5}, "#/max_events", "1.5"),
        ({"ttl_seconds": 0}, "#/ttl_seconds", "0 is not a time"),
        ({"ttl_seconds": -1}, "#/ttl_seconds", "-1"),
        ({"ttl_seconds": 1e300}, "#/ttl_seconds", "366 days"),
        ({"ttl_seconds": "1h"}, "#/ttl_seconds", "'1h'"),
        ({"keep": "newest"}, "#/keep", "Use all or latest"),
        ({"keep": ["all"]}, "#/keep", "Use all or latest"),
        ({"keep": "latest", "max_events": 5}, "#/keep", "leave 'max_events' out"),
        ({"max_event": 5}, "#/max_event", "Did you mean 'max_events'?"),
    ],
)
async def test_wrong_settings_are_named(web: Web, body: dict[str, Any], pointer: str, words: str) -> None:
    document = problem(await web.client.put("/streams/chat", json=body), 422)
    assert [each["pointer"] for each in document["errors"]] == [pointer]
    assert words in document["detail"]
    assert await nothing_stored(web)


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"{", 400, "line 1, column 2"),
        (b'{"result": "\xff"}', 400, "not UTF-8"),
        (b'{"result": %b}' % (b"[" * 100_000), 400, "deeper than 100"),
        (b"[]", 422, "must be a JSON object"),
        (b'"%b"' % (b"x" * 262_144), 413, "larger than 262144 bytes"),
    ],
)
async def test_a_body_that_cannot_be_used_neither_makes_nor_closes_a_stream(
    web: Web, content: bytes, status: int, words: str
) -> None:
    made = await web.client.put("/streams/chat", content=content, headers=JSON)
    closed = await web.client.post("/streams/chat/close", content=content, headers=JSON)
    for response in (made, closed):
        assert words in problem(response, status)["detail"]
    assert await nothing_stored(web)


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=1001", "limit=-1", "limit=x", "after=x", "before=1_0-0", "order=up", "attempts=some"),
        *("after=1-18446744073709551615", "after=chat:1-0"),
    ],
)
async def test_a_malformed_query_of_the_history_is_refused(web: Web, query: str) -> None:
    detail = problem(await web.client.get(f"/streams/chat/history?{query}"), 400)["detail"]
    assert repr(query.split("=", maxsplit=1)[0]) in detail


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "prefix=a b", "prefix=%00", "cursor=*", "cursor=a%0a"])
async def test_a_malformed_query_of_the_list_is_refused(web: Web, query: str) -> None:
    detail = problem(await web.client.get(f"/streams?{query}"), 400)["detail"]
    assert repr(query.split("=", maxsplit=1)[0]) in detail

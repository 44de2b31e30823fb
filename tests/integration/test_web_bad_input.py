"""Bad input: the right status, a sentence that helps, nothing created and nothing lost."""

from __future__ import annotations

import gzip
import json
from typing import Any

import httpx
import pytest

from server.streams.registry import Registry
from tests.support.event_reader import EVENT_STREAM
from tests.support.played_worker import PlayedWorker, TaskType
from tests.support.web import Web

JSON = {"content-type": "application/json"}


async def nothing_created(web: Web) -> bool:
    return not (await web.client.get("/tasks")).json()["tasks"]


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The problem document, which must be a whole one."""
    assert response.status_code == status, (response.status_code, response.text)
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert (document["type"], document["status"]) == ("about:blank", status)
    assert document["title"]
    assert document["detail"]
    return document


@pytest.mark.parametrize(
    ("body", "pointer", "words"),
    [
        ({}, "#/type", "required"),
        ({"type": None}, "#/type", "required"),
        ({"type": 7}, "#/type", "7"),
        ({"type": ""}, "#/type", "does not name"),
        ({"type": "unheard"}, "#/type", "Workers offer countdown, free, steps"),
        ({"type": "fr\x00ee"}, "#/type", "There is no task type"),
        ({"type": "fr\nee"}, "#/type", "There is no task type"),
        ({"type": "x" * 5000}, "#/type", "xxx…"),
        ({"type": "steps"}, "#/input/count", "required"),
        ({"type": "steps", "input": {"count": 0}}, "#/input/count", "minimum of 1"),
        ({"type": "steps", "input": {"count": "3"}}, "#/input/count", "not of type 'integer'"),
        ({"type": "steps", "input": {"count": 3, "names": ["a", 5]}}, "#/input/names/1", "not of type 'string'"),
        ({"type": "steps", "input": {"count": 3, "more": 1}}, "#/input", "'more' was unexpected"),
        ({"type": "steps", "input": [3]}, "#/input", "not an object"),
        ({"type": "steps", "input": None}, "#/input", "null is not an object"),
        ({"type": "free", "title": 5}, "#/title", "5 is not a title"),
        ({"type": "free", "title": ""}, "#/title", "1 to 200"),
        ({"type": "free", "title": "t" * 201}, "#/title", "1 to 200"),
        ({"type": "free", "title": "a\x07b"}, "#/title", "control characters"),
        ({"type": "free", "execute": "no"}, "#/execute", "true or false"),
        ({"type": "free", "queue": "a b"}, "#/queue", "'a b' does not name a queue. Use 1 to 64"),
        ({"type": "free", "queue": ""}, "#/queue", "'' does not name a queue"),
        ({"type": "free", "queue": ["a"]}, "#/queue", '["a"] does not name a queue'),
        ({"type": "free", "queue": "q" * 65}, "#/queue", "does not name a queue"),
        ({"type": "free", "inptu": {}}, "#/inptu", "Did you mean 'input'?"),
        ({"type": "free", "zzz": {}}, "#/zzz", "Known are delay, execute, input, not_before"),
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_a_task_with_a_wrong_member_is_refused_by_name(
    web: Web, body: dict[str, Any], pointer: str, words: str, accept: str
) -> None:
    document = problem(await web.client.post("/tasks", json=body, headers={"accept": accept}), 422)
    assert [error["pointer"] for error in document["errors"]] == [pointer]
    assert words in document["errors"][0]["detail"]
    assert words in document["detail"]
    assert await nothing_created(web)


async def test_of_thousands_of_unknown_members_the_first_twenty_are_named(web: Web) -> None:
    body = {f"m{number}": 1 for number in range(20_000)}
    for response in (
        await web.client.post("/tasks", json=body),
        await web.client.put("/streams/chat", json=body),
        await web.client.post("/streams/chat/events", json=[{"data": 1}, body]),
    ):
        pointers = [error["pointer"].rpartition("/")[2] for error in problem(response, 422)["errors"]]
        assert pointers == [f"m{number}" for number in range(20)]


async def test_every_wrong_field_is_named(web: Web) -> None:
    document = problem(await web.client.post("/tasks", json={"type": "steps", "input": {"count": 9, "names": 1}}), 422)
    assert [error["pointer"] for error in document["errors"]] == ["#/input/count", "#/input/names"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "line 1, column 2"),
        (b'{"type": "free",}', "line 1"),
        (b'{"type": "fr\xffee"}', "not UTF-8"),
        (b"\x00", "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON: a byte order mark stands before it"),
        (b'{"type": "free', "not JSON: unterminated string starting at line 1, column 10."),
        (b'{"type": "\x01"}', "not JSON: invalid control character at line 1, column 11."),
    ],
)
async def test_a_body_that_is_no_json_is_refused(web: Web, content: bytes, words: str) -> None:
    document = problem(await web.client.post("/tasks", content=content, headers=JSON), 400)
    assert words in document["detail"]
    assert await nothing_created(web)


@pytest.mark.parametrize(
    ("value", "shown"), [([1], "[1]"), ("free", "'free'"), (7, "7"), (None, "null"), (True, "true")]
)
async def test_a_body_that_is_no_object_is_refused(web: Web, value: object, shown: str) -> None:
    document = problem(await web.client.post("/tasks", content=json.dumps(value), headers=JSON), 422)
    assert f"must be a JSON object such as {{…}}, not {shown}." in document["detail"]


@pytest.mark.parametrize("headers", [JSON, {}])
async def test_an_empty_body_is_refused(web: Web, headers: dict[str, str]) -> None:
    document = problem(await web.client.post("/tasks", content=b"", headers=headers), 422)
    assert [error["pointer"] for error in document["errors"]] == ["#/type"]
    assert await nothing_created(web)


HUGE = b"9" * 5000


@pytest.mark.parametrize(
    ("content", "pointer", "words"),
    [
        (b'{"type": "free", "title": "\\ud800"}', "#/title", "holds \\ud800, half of a character"),
        (b'{"type": "free", "input": {"texts": ["a", "b\\uDC00"]}}', "#/input/texts/1", "holds \\udc00"),
        (b'{"type": "free", "input": {"\\ud800": 1}}', "#/input/?", "The name holds \\ud800"),
        (b'{"type": "free", "input": {"n": 1e400}}', "#/input/n", "The number 1e400 is too large"),
        (b'{"type": "free", "input": {"n": -1e400}}', "#/input/n", "The number -1e400 is too large"),
        (b'{"type": "free", "input": {"n": %b}}' % HUGE, "#/input/n", "99… is too large"),
        (b'{"type": "free", "input": {"n": [NaN]}}', "#/input/n/0", "NaN is no JSON value"),
        (b'{"type": "free", "input": {"n": -Infinity}}', "#/input/n", "-Infinity is no JSON value"),
        (b'{"type": "free", "input": {"n": %b%b}}' % (b"[" * 300, b"]" * 300), "#/input/n/0/", "deeper than 100"),
        (b'{"type": "free", "input": %b' % (b'{"n":' * 40_000), "#", "deeper than 100"),
        (b'{"type": "free", "title": "a", "type": "steps"}', "#/type", "'type' is there more than once"),
        (b'{"type": "free", "input": {"a/b %": {"x": 1, "x": 1}}}', "#/input/a~1b%20%25/x", "'x' is there more than"),
    ],
)
async def test_what_is_json_but_cannot_be_used_is_refused_with_its_place(
    web: Web, content: bytes, pointer: str, words: str
) -> None:
    for path in ("/tasks", f"/tasks/{(await web.create(execute=False))['id']}/execute"):
        document = problem(await web.client.post(path, content=content, headers=JSON), 400)
        assert [error["pointer"][: len(pointer)] for error in document["errors"]] == [pointer]
        assert words in document["errors"][0]["detail"]
        assert words in document["detail"]
    assert [task["status"] for task in (await web.client.get("/tasks")).json()["tasks"]] == ["pending"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("true", "true is not of type 'integer'"),
        ("null", "null is not of type 'integer'"),
        ('{"a": [null]}', '{"a": [null]} is not of type'),
        ("1e308", "1e+308 is greater than the maximum of 5"),
    ],
)
async def test_a_wrong_value_is_told_as_json_has_it(web: Web, value: str, words: str) -> None:
    content = b'{"type": "steps", "input": {"count": %b}}' % value.encode()
    document = problem(await web.client.post("/tasks", content=content, headers=JSON), 422)
    assert words in document["detail"]
    assert await nothing_created(web)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"enum": [None, True]}, "{} is not one of [null, true]"),
        ({"const": {"a": None}}, '{} is not {"a": null}'),
        ({"not": {}}, "{} is what the schema excludes"),
        ({"oneOf": [True, {"type": "object"}]}, "{} does not fit exactly one"),
        (False, "{} stands where the schema allows nothing"),
        ({"items": False, "prefixItems": [True]}, "[null, null] has more items"),
    ],
)
async def test_every_kind_of_schema_speaks_json(web: Web, worker: PlayedWorker, schema: object, words: str) -> None:
    await worker.offer(TaskType("odd", "", {"properties": {"x": schema}}))
    value: object = [None, None] if words.startswith("[") else {}
    document = problem(await web.client.post("/tasks", json={"type": "odd", "input": {"x": value}}), 422)
    assert document["errors"][0]["pointer"].startswith("#/input")
    assert document["errors"][0]["detail"].startswith(words)


async def test_a_schema_that_follows_itself_is_checked_no_deeper_than_it_can_be(web: Web, worker: PlayedWorker) -> None:
    part: dict[str, Any] = {"$ref": "#"}
    for _ in range(10):
        part = {"allOf": [part]}
    schema = {"properties": {"next": part}}
    await worker.offer(TaskType("list", "", schema))
    value: dict[str, Any] = {}
    for _ in range(98):
        value = {"next": value}
    document = problem(await web.client.post("/tasks", json={"type": "list", "input": value}), 422)
    assert [error["pointer"] for error in document["errors"]] == ["#/input"]
    assert "nested too deeply" in document["detail"]
    assert await nothing_created(web)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", None])
async def test_a_body_of_another_content_type_is_refused(web: Web, content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    response = await web.client.post("/tasks", content=b'{"type": "free"}', headers=headers)
    assert "application/json" in problem(response, 415)["detail"]
    assert await nothing_created(web)


@pytest.mark.parametrize("charset", ["utf-8", "UTF8", '"utf-8"'])
async def test_a_charset_in_the_content_type_is_fine(web: Web, charset: str) -> None:
    headers = {"content-type": f"Application/JSON; charset={charset}"}
    assert (await web.client.post("/tasks", content=b'{"type": "free"}', headers=headers)).status_code == 202


async def test_a_charset_that_is_not_utf_8_is_refused(web: Web) -> None:
    headers = {"content-type": "application/json;charset=latin-1"}
    response = await web.client.post("/tasks", content=b'{"type": "free"}', headers=headers)
    assert "'latin-1'" in problem(response, 415)["detail"]
    assert await nothing_created(web)


@pytest.mark.parametrize("declares", [True, False])
async def test_an_oversized_body_is_refused_whether_it_says_so_or_not(web: Web, declares: bool) -> None:
    content = json.dumps({"type": "free", "input": {"text": "x" * 300_000}}).encode()
    request = web.client.build_request("POST", "/tasks", content=content, headers=JSON)
    if not declares:
        del request.headers["content-length"]
    assert "262144 bytes" in problem(await web.client.send(request), 413)["detail"]
    assert await nothing_created(web)


@pytest.mark.parametrize("key", ["", "x" * 256, "a\x7fb", "é"])
async def test_an_unusable_idempotency_key_is_refused(web: Web, key: str) -> None:
    headers = {b"idempotency-key": key.encode("latin-1")}
    response = await web.client.post("/tasks", json={"type": "free"}, headers=headers)
    assert "1 to 255 printable ASCII characters" in problem(response, 400)["detail"]
    assert await nothing_created(web)


async def test_two_idempotency_keys_are_refused(web: Web) -> None:
    headers = [("idempotency-key", "a"), ("idempotency-key", "a")]
    response = await web.client.post("/tasks", json={"type": "free"}, headers=headers)
    assert "There are 2 headers Idempotency-Key" in problem(response, 400)["detail"]
    assert await nothing_created(web)


@pytest.mark.parametrize("path", ["/tasks/{}/events", "/streams/tasks.{}/events", "/events?stream=tasks.{}"])
@pytest.mark.parametrize("accept", [EVENT_STREAM, {"accept": "application/json"}])
async def test_two_last_event_ids_are_refused(web: Web, path: str, accept: dict[str, str]) -> None:
    """Also where they are the same: no client sends two, and which one a proxy keeps nobody knows."""
    address = path.format((await web.create(execute=False))["id"])
    headers = [*accept.items(), ("last-event-id", "0-0"), ("last-event-id", "0-0")]
    detail = problem(await web.client.get(address, headers=headers), 400)["detail"]
    assert detail == "There are 2 headers Last-Event-ID. Send one."


async def test_two_last_event_ids_start_nothing(web: Web) -> None:
    task = await web.create(execute=False)
    headers = [("last-event-id", ""), ("last-event-id", "0-0")]
    response = await web.client.post(f"/tasks/{task['id']}/execute", headers=headers)
    assert "There are 2 headers Last-Event-ID" in problem(response, 400)["detail"]
    assert (await web.client.get(f"/tasks/{task['id']}")).json()["status"] == "pending"


@pytest.mark.parametrize(
    ("coding", "shown"),
    [("gzip", "'gzip'"), ("foo", "'foo'"), ("GZIP, identity", "'GZIP'"), ("br,deflate", "'br, deflate'")],
)
@pytest.mark.parametrize("body", [b'{"type": "free"}', gzip.compress(b"{}"), b""], ids=["plain", "gzip", "empty"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/tasks"),
        ("POST", "/tasks/{}/execute"),
        ("POST", "/streams/chat/events"),
        ("PUT", "/streams/chat"),
        ("POST", "/streams/chat/close"),
    ],
)
async def test_a_body_that_is_compressed_is_refused(
    web: Web, method: str, path: str, body: bytes, coding: str, shown: str
) -> None:
    address = path.format((await web.create(execute=False))["id"])
    response = await web.client.request(method, address, content=body, headers={**JSON, "content-encoding": coding})
    assert problem(response, 415)["detail"] == (
        f"The body must be plain, but the content encoding is {shown}. Send it as it is, without 'Content-Encoding'."
    )
    assert response.headers["accept-encoding"] == "identity"
    assert (await web.client.get("/streams/chat")).status_code == 404


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
async def test_a_body_that_is_said_to_be_plain_is_read(web: Web, coding: str) -> None:
    headers = {**JSON, "content-encoding": coding}
    response = await web.client.post("/streams/chat/events", content=b'{"data": 1}', headers=headers)
    assert response.status_code == 201


async def test_a_place_a_hundred_levels_deep_is_cut_in_the_sentence_and_whole_beside_it(web: Web) -> None:
    content = b'{"data": %b%b}' % (b"[" * 150, b"]" * 150)
    document = problem(await web.client.post("/streams/chat/events", content=content, headers=JSON), 400)
    assert document["errors"][0]["pointer"] == "#/data" + "/0" * 99
    place = ("data" + "/0" * 99)[:64]
    assert document["detail"].startswith(f"The body cannot be read. {place}…: This is nested deeper than 100 levels.")


async def test_cancel_does_not_read_its_body(web: Web) -> None:
    task_id = (await web.create(execute=False))["id"]
    response = await web.client.post(f"/tasks/{task_id}/cancel", content=b"{", headers={"content-type": "text/plain"})
    assert (response.status_code, response.json()["status"]) == (202, "cancelled")


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "101"},
        {"limit": "x"},
        {"limit": "-1"},
        {"limit": "1" * 99},
        {"status": "done"},
        {"status": "deleted"},
        {"cursor": "x"},
        {"cursor": "+inf-"},
        {"cursor": "1-a\x00"},
        {"cursor": "1-" + "a" * 500},
    ],
)
async def test_a_malformed_query_of_the_list_is_refused(web: Web, query: dict[str, str]) -> None:
    document = problem(await web.client.get("/tasks", params=query), 400)
    assert repr(next(iter(query))) in document["detail"]


CURSORS = [
    *("x", "1", "1-", "-1", "1_0-0", " 1-1", "1-1 ", "٣-٣", "01-1", "1-18446744073709551615", "0-\x00", "système"),
    *("1-1,2-2", "a:1-1", "9" * 60_000),
]


@pytest.mark.parametrize("cursor", CURSORS)
@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
async def test_a_malformed_or_absurdly_long_cursor_is_refused(web: Web, cursor: str, accept: str) -> None:
    task_id = (await web.create())["id"]
    for path in (f"/tasks/{task_id}/events", "/tasks/stream", "/stream/system"):
        response = await web.client.get(path, params={"last_event_id": cursor}, headers={"accept": accept})
        detail = problem(response, 400)["detail"]
        assert "exactly as it was received" in detail
        assert len(detail) < 400


async def test_a_malformed_cursor_in_the_header_is_refused_by_execute_before_it_starts(web: Web) -> None:
    task_id = (await web.create(execute=False))["id"]
    response = await web.client.post(f"/tasks/{task_id}/execute", headers={"last-event-id": "x"})
    problem(response, 400)
    async with web.client.stream("GET", f"/tasks/{task_id}/events", headers=EVENT_STREAM) as response:
        assert response.status_code == 200
    assert (await web.client.get(f"/tasks/{task_id}")).json()["status"] == "pending"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("last=-1", "'last' is '-1'"),
        ("since=x", "'since' is 'x'"),
        ("from=latest&since=1", "each name a place to begin at"),
        ("compact=1", "'compact' is '1'"),
        ("type=", "'' is not an event type"),
        ("type=a%0Ab", "'a\\nb' is not an event type"),
        ("type=a%00", "'a\\x00' is not an event type"),
        ("heartbeat=1", "'heartbeat' is '1'"),
    ],
)
async def test_a_wrong_parameter_of_a_stream_is_refused_before_anything_starts(
    web: Web, query: str, words: str
) -> None:
    for headers in (EVENT_STREAM, {"accept": "application/json"}):
        created = await web.client.post(f"/tasks?{query}", json={"type": "free"}, headers=headers)
        assert words in problem(created, 400)["detail"]
    assert await nothing_created(web)
    task_id = (await web.create(execute=False))["id"]
    executed = await web.client.post(f"/tasks/{task_id}/execute?{query}")
    assert words in problem(executed, 400)["detail"]
    assert (await web.client.get(f"/tasks/{task_id}")).json()["status"] == "pending"
    countdown = await web.client.get(f"/stream/countdown/5?{query}", headers=EVENT_STREAM)
    assert words in problem(countdown, 400)["detail"]
    assert [task["id"] for task in (await web.client.get("/tasks")).json()["tasks"]] == [task_id]


@pytest.mark.parametrize(
    "query", ["from=middle", "last=0", "last=x", "last=99999999", "from=latest&last=3", "attempts=some", "heartbeat=1"]
)
async def test_a_wrong_parameter_of_a_stream_is_refused(web: Web, query: str) -> None:
    document = problem(await web.client.get(f"/stream/system?{query}", headers=EVENT_STREAM), 400)
    assert query.split("=", maxsplit=1)[0] in document["detail"]


@pytest.mark.parametrize("name", ["%00", "%0a", "a%01b", "%7f", "a b", "é", "x" * 500, "..%2f..", "a%2Fb"])
async def test_names_with_control_characters_name_no_task(web: Web, name: str) -> None:
    for path in (f"/tasks/{name}", f"/tasks/{name}/events"):
        for accept in ("*/*", "text/event-stream"):
            problem(await web.client.get(path, headers={"accept": accept}), 404)


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/tasks/", "/tasks/stream/", "/stream/system/", "/stream/nothing", "/console", "/%00", "//tasks"],
)
@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
async def test_an_unknown_path_is_404_and_never_a_redirect(web: Web, path: str, accept: str) -> None:
    problem(
        await web.client.get(httpx.URL("http://test").copy_with(raw_path=path.encode()), headers={"accept": accept}),
        404,
    )


async def test_a_wrong_method_is_told_of_the_right_ones(web: Web) -> None:
    response = await web.client.put("/tasks")
    assert "does not take PUT" in problem(response, 405)["detail"]
    assert {each.strip() for each in response.headers["allow"].split(",")} == {"GET", "HEAD", "POST"}


async def test_an_eventsource_on_a_path_without_a_stream_gets_a_status_it_understands(web: Web) -> None:
    task_id = (await web.create())["id"]
    problem(await web.client.get(f"/tasks/{task_id}/execute", headers=EVENT_STREAM), 404)
    problem(await web.client.get(f"/tasks/{task_id}/execute"), 405)


@pytest.mark.parametrize(
    "schema", [{"type": "nonsense"}, {"$ref": "http://127.0.0.1:9/schema.json"}, {"$ref": "#/$defs/none"}]
)
async def test_a_schema_that_does_not_work_is_the_workers_fault_and_fetches_nothing(
    web: Web, worker: PlayedWorker, schema: dict[str, Any]
) -> None:
    await worker.offer(TaskType("broken", "", schema))
    document = problem(await web.client.post("/tasks", json={"type": "broken"}), 422)
    assert "its worker must mend it" in document["detail"]
    assert await nothing_created(web)


async def test_an_error_text_does_not_repeat_an_essay(web: Web) -> None:
    body = {"type": "steps", "input": {"count": "x" * 100_000}}
    assert len((await web.client.post("/tasks", json=body)).content) < 2000


async def test_a_type_that_a_worker_announces_while_it_is_looked_up_is_none_that_is_unknown(
    web: Web, worker: PlayedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_empty = Registry.is_empty

    async def announced(registry: Registry) -> bool:
        """As after Redis was emptied: the workers come back one by one."""
        await worker.offer(TaskType("late", "Comes in this moment.", {"type": "object"}))
        return await is_empty(registry)

    monkeypatch.setattr(Registry, "is_empty", announced)
    assert (await web.client.post("/tasks", json={"type": "late"})).status_code == 202

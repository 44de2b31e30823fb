"""Pages of a stream as JSON: forwards, backwards, gaps told, and following from exactly there."""

from __future__ import annotations

from typing import Any

import pytest

from server.streams.connections import AsyncClient, execute
from server.streams.keys import Keys
from server.streams.records import Status
from tests.support.event_reader import reading
from tests.support.open_streams import events, pages, problem, publish
from tests.support.played_worker import PlayedWorker
from tests.support.web import Web

PATH = "/streams/chat/history"


async def numbered(web: Web, count: int) -> list[str]:
    return await publish(web, [{"type": "n", "data": number} for number in range(count)])


def ids_of(page: dict[str, Any]) -> list[str]:
    return [event["id"] for event in page["events"]]


async def test_a_page_holds_what_readers_get_and_leads_to_the_next(web: Web) -> None:
    ids = await numbered(web, 5)
    response = await web.client.get(f"{PATH}?limit=2")
    page = response.json()
    assert page["events"][0] == {"id": ids[0], "type": "n", "data": "0", "time": page["events"][0]["time"]}
    assert page["events"][0]["time"].endswith("Z")
    assert (ids_of(page), page["gap"], page["next"], page["cursor"]) == (ids[:2], None, ids[1], ids[1])
    assert response.links["next"]["url"] == f"{PATH}?limit=2&after={ids[1]}"
    assert response.links["monitor"]["url"] == f"/streams/chat/events?last_event_id={ids[1]}"
    assert response.links["monitor"]["type"] == "text/event-stream"


async def test_the_link_to_the_next_page_repeats_what_was_asked_for_and_nothing_else(web: Web) -> None:
    ids = await numbered(web, 5)
    query = f"order=desc&limit=2&after={ids[0]}&attempts=all"
    response = await web.client.get(f"{PATH}?{query}&more={'x' * 5000}&before={ids[4]}")
    assert response.links["next"]["url"] == f"{PATH}?order=desc&limit=2&after={ids[0]}&before={ids[2]}&attempts=all"
    assert ids_of((await web.client.get(response.links["next"]["url"])).json()) == [ids[1]]


@pytest.mark.parametrize("limit", [1, 2, 4, 5, 6, 1000])
async def test_pages_forwards_and_backwards_hold_everything_once(web: Web, limit: int) -> None:
    ids = await numbered(web, 5)
    for order, expected in (("asc", ids), ("desc", ids[::-1])):
        found = await pages(web, f"{PATH}?limit={limit}&order={order}")
        assert [each for page in found for each in ids_of(page)] == expected
        assert {len(page["events"]) for page in found[:-1]} <= {limit}
        assert found[-1]["next"] is None
        assert [page["gap"] for page in found] == [None] * len(found)
        assert all(page["events"] for page in found)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("after={1}", [2, 3, 4]),
        ("before={3}", [0, 1, 2]),
        ("after={0}&before={3}", [1, 2]),
        ("after={3}&before={1}", []),
        ("after={4}", []),
        ("before={0}", []),
        ("order=desc&before={3}", [2, 1, 0]),
        ("order=desc&after={1}", [4, 3, 2]),
        ("order=desc&after={0}&before={3}", [2, 1]),
        ("order=desc&after={3}&before={1}", []),
        ("order=desc&before={0}", []),
    ],
)
async def test_a_page_lies_between_the_ids_that_it_was_asked_for(web: Web, query: str, expected: list[int]) -> None:
    ids = await numbered(web, 5)
    for limit in (1, 2, 100):
        found = await pages(web, f"{PATH}?limit={limit}&{query.format(*ids)}")
        assert [each for page in found for each in ids_of(page)] == [ids[number] for number in expected]
        assert [page["gap"] for page in found] == [None] * len(found)


async def test_a_page_that_was_shown_is_followed_from_exactly_there(web: Web) -> None:
    ids = await numbered(web, 5)
    newest = await web.client.get(f"{PATH}?order=desc&limit=2")
    assert (ids_of(newest.json()), newest.json()["cursor"]) == ([ids[4], ids[3]], ids[4])
    [sixth] = await publish(web, {"data": 5})
    async with reading(web.client, newest.links["monitor"]["url"]) as reader:
        assert (await reader.next()).id == sixth


async def test_of_a_stream_that_is_not_there_yet_a_page_is_empty_and_followed_from_its_beginning(web: Web) -> None:
    for order in ("asc", "desc"):
        response = await web.client.get(f"{PATH}?order={order}")
        assert response.json() == {"events": [], "gap": None, "next": None, "cursor": "0-0"}
    async with reading(web.client, response.links["monitor"]["url"]) as reader:
        assert (await reader.next()).event == "position"
        [first] = await publish(web, {"data": 1})
        assert (await reader.next()).id == first


async def test_what_was_trimmed_is_told_before_the_oldest_event_in_either_direction(
    web: Web, client: AsyncClient, keys: Keys
) -> None:
    ids = await numbered(web, 5)
    await execute(client, "XTRIM", keys.log("chat"), "MAXLEN", 3)
    [page] = await pages(web, PATH)
    gap = {"stream": "chat", "requested": None, "resumed_at": ids[2], "missed": None}
    assert (ids_of(page), page["gap"]) == (ids[2:], gap)
    [page] = await pages(web, f"{PATH}?after={ids[0]}")
    assert (ids_of(page), page["gap"]) == (
        ids[2:],
        {"stream": "chat", "requested": ids[0], "resumed_at": ids[2], "missed": 1},
    )
    found = await pages(web, f"{PATH}?order=desc&limit=2")
    assert [(ids_of(page), page["gap"]) for page in found] == [([ids[4], ids[3]], None), ([ids[2]], gap)]
    [page] = await pages(web, f"{PATH}?order=desc&after={ids[0]}")
    assert page["gap"] == {"stream": "chat", "requested": ids[0], "resumed_at": ids[2], "missed": 1}
    [page] = await pages(web, f"{PATH}?order=desc&before={ids[1]}")
    assert (ids_of(page), page["gap"]) == (
        [],
        {"stream": "chat", "requested": None, "resumed_at": ids[1], "missed": None},
    )
    [page] = await pages(web, f"{PATH}?order=desc&after={ids[1]}")
    assert page["gap"] is None


async def test_a_hole_in_the_middle_ends_a_page_and_is_told(web: Web, client: AsyncClient, keys: Keys) -> None:
    ids = await numbered(web, 5)
    await execute(client, "XDEL", keys.log("chat"), ids[2])
    gap = {"stream": "chat", "requested": ids[1], "resumed_at": ids[3], "missed": 1}
    found = await pages(web, PATH)
    assert [(ids_of(page), page["gap"]) for page in found] == [(ids[:2], None), (ids[3:], gap)]
    found = await pages(web, f"{PATH}?order=desc")
    assert [(ids_of(page), page["gap"]) for page in found] == [([ids[4], ids[3]], gap), ([ids[1], ids[0]], None)]


async def test_another_incarnation_of_redis_is_no_hole(web: Web, client: AsyncClient) -> None:
    first = await numbered(web, 2)
    await execute(client, "DEBUG", "CHANGE-REPL-ID")
    second = await numbered(web, 2)
    assert first[0].split("-", maxsplit=1)[0] != second[0].split("-", maxsplit=1)[0]
    for limit in (1, 3, 9):
        found = await pages(web, f"{PATH}?order=desc&limit={limit}")
        assert [each for page in found for each in ids_of(page)] == [*second[::-1], *first[::-1]]
        assert [page["gap"] for page in found] == [None] * len(found)


async def test_large_events_make_shorter_pages_and_none_is_lost(web: Web) -> None:
    ids = [each for _ in range(10) for each in await publish(web, {"data": "x" * 250_000})]
    for order, expected in (("asc", ids), ("desc", ids[::-1])):
        found = await pages(web, f"{PATH}?order={order}")
        assert [each for page in found for each in ids_of(page)] == expected
        assert 1 < len(found) <= 5


async def test_a_cursor_ahead_of_the_log_finds_nothing_and_is_told(web: Web) -> None:
    ids = await numbered(web, 2)
    future = f"{2**60}-0"
    page = (await web.client.get(f"{PATH}?after={future}")).json()
    assert page["gap"] == {"stream": "chat", "requested": future, "resumed_at": None, "missed": None}
    assert (page["events"], page["next"], page["cursor"]) == ([], "0-0", "0-0")
    assert ids_of((await web.client.get(f"{PATH}?after={page['next']}")).json()) == ids


async def test_the_end_is_part_of_the_history(web: Web) -> None:
    await numbered(web, 1)
    await web.client.post("/streams/chat/close")
    assert [event["type"] for event in await events(web)] == ["n", "complete"]
    assert (await web.client.get(f"{PATH}?order=desc&limit=1")).json()["events"][0]["type"] == "complete"


async def test_of_a_task_the_history_shows_what_stands_and_all_attempts_on_demand(
    web: Web, worker: PlayedWorker
) -> None:
    task_id = (await web.create())["id"]
    for number, query in ((1, None), (2, {"rerun_of": 1})):
        if query:
            async with web.client.stream("POST", f"/tasks/{task_id}/execute", json=query):
                pass
        async with worker.run(task_id) as writer:
            await writer.finish(Status.COMPLETED, f'{{"result":{number}}}')
    path = f"/streams/tasks.{task_id}/history"
    both = ["attempt", "complete", "attempt", "complete"]
    for order in ("asc", "desc"):
        for limit in (1, 3, 100):
            found = [
                [
                    event["type"]
                    for page in await pages(web, f"{path}?order={order}&limit={limit}{more}")
                    for event in page["events"]
                ]
                for more in ("", "&attempts=all")
            ]
            assert found == ([both[:2], both] if order == "asc" else [both[1::-1], both[::-1]])
    problem(await web.client.get("/streams/tasks.nobody/history"), 404)

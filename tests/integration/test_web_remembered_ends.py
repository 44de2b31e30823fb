"""Ends that stand in no log any more: of a stream deleted among several, and of a closed one that has expired."""

from __future__ import annotations

from typing import Any

import pytest

from server.streams import log as log_module
from server.streams.connections import execute
from server.streams.event import Draft
from server.streams.ids import EventId, parse_event_id
from server.streams.keys import Keys
from tests.support.composites import own_of, positions_in
from tests.support.event_reader import EVENT_STREAM, data_of, reading, types_of
from tests.support.log_hand import Hand
from tests.support.open_streams import problem, publish
from tests.support.web import Web, serving

JSON = {"accept": "application/json"}
BOTH = "/events?stream=a&stream=b"
DELETED = ("cancelled", '{"reason":"deleted"}')
COMPLETE = ("complete", '{"result":7}')


async def poll(web: Web, address: str) -> dict[str, Any]:
    response = await web.client.get(address, headers=JSON)
    assert response.status_code == 200, response.text
    return response.json()


async def status(web: Web, address: str, cursor: str = "") -> int:
    headers = {**EVENT_STREAM, "last-event-id": cursor}
    async with web.client.stream("GET", address, headers=headers) as response:
        return response.status_code


async def end_b(hand: Hand) -> EventId:
    return (await hand.publish("b", [Draft("complete", "{}")], token="end of b", ends=True)).id


# Deleted, among others.


@pytest.mark.parametrize(
    "begins", ["the newest", "the first", "0-0", "no cursor", "ahead", "from=latest", "compact=true"]
)
async def test_a_stream_deleted_while_the_reader_was_away_is_told_once_among_others(
    web: Web, hand: Hand, begins: str
) -> None:
    first, newest = await publish(web, [{"data": 1}, {"data": 2}], stream="a")
    await web.client.delete("/streams/a")
    cursor = {"the newest": newest, "the first": first, "0-0": "0-0", "ahead": f"{2**60}-0"}.get(begins)
    headers = {"last-event-id": f"a:{cursor},b:0-0"} if cursor else {}
    path = f"{BOTH}&{begins}" if "=" in begins else BOTH
    async with reading(web.client, path, headers=headers) as reader:
        [*before, end] = await reader.until("cancelled")
        assert (end.event, end.data) == DELETED
        assert [each.event for each in before] == []
        stream, gone = own_of(end.id)
        assert (stream, gone > parse_event_id(newest)) == ("a", True)
        [b] = await publish(web, {"data": 3}, stream="b")
        assert (await reader.next()).id == f"b:{b},a:{gone}"
    async with reading(web.client, path, headers={"last-event-id": end.id}) as again:
        assert (await again.next()).id == f"b:{b},a:{gone}"
        await end_b(hand)
        assert types_of(await again.rest()) == ["complete"]
    assert await status(web, BOTH, f"a:{gone},b:{await end_b(hand)}") == 204


@pytest.mark.parametrize("cursor", ["", "&last_event_id=a:0-0,b:0-0"])
async def test_a_poll_of_several_streams_has_the_end_of_the_deleted_one_and_goes_on(
    web: Web, hand: Hand, cursor: str
) -> None:
    await publish(web, {"data": 1}, stream="a")
    await web.client.delete("/streams/a")
    found = await poll(web, f"{BOTH}&wait=30{cursor}")
    [end] = found["events"]
    assert (end["stream"], end["type"], end["data"]) == ("a", *DELETED)
    assert (found["gap"], found["ended"], positions_in(found["cursor"])["a"]) == (None, False, own_of(end["id"])[1])
    again = await poll(web, f"{BOTH}&last_event_id={found['cursor']}")
    assert (again["events"], again["ended"]) == ([], False)
    await end_b(hand)
    last = await poll(web, f"{BOTH}&wait=30&last_event_id={again['cursor']}")
    assert ([each["type"] for each in last["events"]], last["ended"]) == (["complete"], True)


async def test_a_stream_that_was_closed_and_then_deleted_is_told_to_who_had_not_its_end(web: Web) -> None:
    [first] = await publish(web, {"data": 1}, stream="a")
    closed = (await web.client.post("/streams/a/close")).json()["id"]
    await web.client.delete("/streams/a")
    async with reading(web.client, BOTH, headers={"last-event-id": f"a:{first},b:0-0"}) as behind:
        end = await behind.next()
        assert (end.event, end.data, end.id) == (*DELETED, f"a:{closed},b:0-0")
    async with reading(web.client, BOTH, headers={"last-event-id": end.id}) as told:
        assert (await told.next()).event == "position"
        [b] = await publish(web, {"data": 2}, stream="b")
        assert (await told.next()).id == f"b:{b},a:{closed}"


async def test_streams_that_are_all_deleted_are_204_together_as_each_is_alone_and_a_poll_has_no_more(web: Web) -> None:
    for stream in ("a", "b"):
        await publish(web, {"data": 1}, stream=stream)
        await web.client.delete(f"/streams/{stream}")
    assert await status(web, BOTH) == 204
    ended: dict[str, Any] = {"events": [], "gap": None, "more": False, "ended": True}
    assert await poll(web, BOTH) == {**ended, "cursor": "a:0-0,b:0-0"}
    assert await poll(web, "/streams/a/events") == {**ended, "cursor": "0-0"}


async def test_a_task_deleted_while_the_reader_was_away_is_told_once_among_others(web: Web) -> None:
    task = (await web.create())["id"]
    await web.client.post(f"/tasks/{task}/cancel")
    last = (await web.client.get(f"/tasks/{task}")).json()["last_event_id"]
    await web.client.delete(f"/tasks/{task}")
    path = f"/events?stream=tasks.{task}&stream=b"
    for query in ("", "&attempts=all"):
        async with reading(web.client, path + query) as reader:
            end = await reader.next()
            assert (end.event, end.data, end.id) == (*DELETED, f"tasks.{task}:{last},b:0-0")
        async with reading(web.client, path + query, headers={"last-event-id": end.id}) as again:
            assert (await again.next()).event == "position"


# Closed, and expired.


async def expired(web: Web, hand: Hand, keys: Keys) -> tuple[list[str], str]:
    """Ids of events of the stream `a` and of its end, of which Redis holds no log any more."""
    await web.client.put("/streams/a", json={"ttl_seconds": 60})
    ids = await publish(web, [{"data": 1}, {"data": 2}], stream="a")
    closed = await web.client.post("/streams/a/close", json={"result": 7})
    await execute(hand.client, "PEXPIRE", keys.log("a"), 0)
    return ids, closed.json()["id"]


async def test_a_closed_stream_stays_closed_when_its_log_has_expired(web: Web, hand: Hand, keys: Keys) -> None:
    _, end = await expired(web, hand, keys)
    about = (await web.client.get("/streams/a")).json()
    assert (about["closed"], about["length"], about["first_id"], about["last_id"]) == (True, 0, None, end)
    assert "is closed" in problem(await web.client.post("/streams/a/events", json={"data": 3}), 409)["detail"]
    assert (await web.client.post("/streams/a/close")).json() == {"id": end}
    assert (await web.client.put("/streams/a", json={"ttl_seconds": 60})).json()["closed"] is True
    assert [each["closed"] for each in (await web.client.get("/streams")).json()["streams"]] == [True]
    assert await execute(hand.client, "EXISTS", keys.log("a")) == 0


async def test_readers_of_a_closed_stream_that_has_expired_get_its_end(web: Web, hand: Hand, keys: Keys) -> None:
    [first, second], end = await expired(web, hand, keys)
    path = "/streams/a/events"
    for cursor, missed in ((first, 1), ("0-0", None), ("", None), (f"{2**60}-3", None)):
        async with reading(web.client, path, headers={"last-event-id": cursor}) as reader:
            gap, position, last = await reader.rest()
        requested = cursor if cursor not in {"", "0-0"} else None
        assert data_of(gap) == {"stream": "a", "requested": requested, "resumed_at": end, "missed": missed}
        assert (position.event, last.event, last.data, last.id) == ("position", *COMPLETE, end)
    for query in (f"?last_event_id={second}", "?type=none&last_event_id=" + second):
        async with reading(web.client, path + query) as reader:
            assert [(each.event, each.data, each.id) for each in await reader.rest()] == [(*COMPLETE, end)]
    for query in ("?compact=true", "?last=2", "?since=0"):
        async with reading(web.client, path + query) as reader:
            assert types_of(await reader.rest()) == ["gap", "position", "complete"]
    assert [await status(web, path, end), await status(web, f"{path}?from=latest")] == [204, 204]
    found = await poll(web, path)
    assert ([each["type"] for each in found["events"]], found["gap"]["resumed_at"], found["ended"]) == (
        ["complete"],
        end,
        True,
    )


async def test_a_closed_stream_that_has_expired_ends_among_others(web: Web, hand: Hand, keys: Keys) -> None:
    [first, _], end = await expired(web, hand, keys)
    async with reading(web.client, BOTH, headers={"last-event-id": f"a:{first},b:0-0"}) as reader:
        gap, position, last = await reader.take(3)
        assert (gap.event, position.event, last.event, last.id) == ("gap", "position", "complete", f"a:{end},b:0-0")
        await end_b(hand)
        assert types_of(await reader.rest()) == ["complete"]


async def test_the_history_of_a_closed_stream_that_has_expired_is_its_end_behind_a_gap(
    web: Web, hand: Hand, keys: Keys
) -> None:
    [first, second], end = await expired(web, hand, keys)
    for query, requested in (("", None), ("?order=desc", None), (f"?after={first}", first)):
        page = await poll(web, f"/streams/a/history{query}")
        assert [(each["id"], each["type"], each["data"]) for each in page["events"]] == [(end, *COMPLETE)]
        assert page["events"][0]["time"]
        assert (page["gap"]["requested"], page["next"], page["cursor"]) == (requested, None, end)
    assert (await poll(web, f"/streams/a/history?after={second}"))["gap"] is None
    assert (await poll(web, f"/streams/a/history?after={end}"))["events"] == []


async def test_a_closed_stream_that_has_expired_can_be_deleted_and_made_anew(web: Web, hand: Hand, keys: Keys) -> None:
    [first, _], end = await expired(web, hand, keys)
    assert (await web.client.delete("/streams/a")).status_code == 204
    async with reading(web.client, BOTH, headers={"last-event-id": f"a:{first},b:0-0"}) as reader:
        told = await reader.next()
        assert (told.event, told.data, told.id) == (*DELETED, f"a:{end},b:0-0")
    assert (await web.client.put("/streams/a", json={})).json()["closed"] is False
    [new] = await publish(web, {"data": "new"}, stream="a")
    assert parse_event_id(new) > parse_event_id(end)


async def test_settings_that_come_after_the_end_remember_it_too(web: Web, hand: Hand, keys: Keys) -> None:
    await publish(web, {"data": 1}, stream="a")
    end = (await web.client.post("/streams/a/close", json={"result": 7})).json()["id"]
    await web.client.put("/streams/a", json={"ttl_seconds": 60})
    await execute(hand.client, "PEXPIRE", keys.log("a"), 0)
    async with reading(web.client, "/streams/a/events") as reader:
        last = (await reader.rest())[-1]
        assert (last.event, last.data, last.id) == (*COMPLETE, end)


async def test_an_end_is_remembered_for_the_retention_at_least(redis_url: str, hand: Hand, keys: Keys) -> None:
    year = 366 * 86_400
    async with serving(redis_url, retention_seconds=year) as web:
        await web.until_ready()
        await web.client.put("/streams/a", json={"ttl_seconds": 30})
        await publish(web, {"data": 1}, stream="a")
        await web.client.post("/streams/a/close")
        for _ in range(2):
            assert await execute(hand.client, "PTTL", keys.log("a")) <= 30_000
            assert await execute(hand.client, "PTTL", keys.about("a")) > (year - 3600) * 1000
            assert (await web.client.put("/streams/a", json={"ttl_seconds": 30})).status_code == 200


async def test_a_stream_that_goes_on_behind_its_end_is_not_remembered_as_ended(
    web: Web, hand: Hand, keys: Keys
) -> None:
    await web.client.put("/streams/a", json={"ttl_seconds": 60})
    end = parse_event_id((await web.client.post("/streams/a/close")).json()["id"])
    # A program that uses XADD itself heeds no end.
    await execute(hand.client, "XADD", keys.log("a"), f"{end.generation + 5}-0", "e", "n", "d", "1", "t", "1")
    await publish(web, {"data": 2}, stream="a")
    await execute(hand.client, "PEXPIRE", keys.log("a"), 0)
    assert (await web.client.get("/streams/a")).json()["closed"] is False
    await publish(web, {"data": 3}, stream="a")


async def test_who_follows_from_an_empty_page_of_expired_events_is_told_the_gap_with_the_next_event(
    web: Web, hand: Hand, keys: Keys
) -> None:
    await web.client.put("/streams/a", json={"ttl_seconds": 60})
    await publish(web, [{"data": 1}, {"data": 2}], stream="a")
    await execute(hand.client, "PEXPIRE", keys.log("a"), 0)
    page = await poll(web, "/streams/a/history")
    assert (page["events"], page["gap"], page["cursor"]) == ([], None, "0-0")
    async with reading(web.client, f"/streams/a/events?last_event_id={page['cursor']}") as reader:
        await reader.next()
        [new] = await publish(web, {"data": 3}, stream="a")
        gap, position, event = await reader.take(3)
        assert (data_of(gap)["requested"], data_of(gap)["resumed_at"]) == (None, new)
        assert (position.event, event.id) == ("position", new)


async def test_a_log_that_begins_and_ends_while_it_is_looked_at_is_read_whole(
    web: Web, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    await web.client.put("/streams/a", json={"ttl_seconds": 60})
    commands: list[str] = []

    async def late(client: Any, command: str, *words: Any) -> Any:
        commands.append(command)
        if commands == ["HMGET"]:
            await publish(web, [{"data": 1}, {"data": 2}], stream="a")
            await web.client.post("/streams/a/close", json={"result": 7})
        return await execute(client, command, *words)

    with monkeypatch.context() as patch:
        patch.setattr(log_module, "execute", late)
        async with reading(web.client, "/streams/a/events") as reader:
            assert types_of(await reader.rest()) == ["message", "message", "complete"]
    assert commands[0] == "HMGET"

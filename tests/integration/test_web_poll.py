"""Long polling: the same cursors, filters, gaps and ends as JSON, and nothing asked of Redis while a client waits."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from server.streams.connections import execute
from server.streams.event import Draft
from server.streams.ids import EventId
from server.streams.keys import Keys
from server.streams.records import Status
from tests.support.event_reader import EVENT_STREAM, reading
from tests.support.log_hand import Hand, drafts, numbered
from tests.support.played_worker import PlayedWorker
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.web import Web, serving

JSON = {"accept": "application/json"}


async def poll(web: Web, address: str, **headers: str) -> dict[str, Any]:
    response = await web.client.get(address, headers={**JSON, **headers})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    document = response.json()
    assert set(document) == {"events", "cursor", "gap", "more", "ended"}
    return document


def link(response: httpx.Response, rel: str) -> str:
    return response.links[rel]["url"]


async def test_what_is_there_is_answered_at_once(web: Web, hand: Hand) -> None:
    first = (await hand.publish("a", drafts("é\n1", "2"), token="1")).id
    for address in ("/streams/a/events", "/streams/a/events?wait=60"):
        found = await poll(web, address)
        assert found == {
            "events": [
                {"id": str(first), "type": "t", "data": "é\n1"},
                {"id": str(first.next()), "type": "t", "data": "2"},
            ],
            "cursor": str(first.next()),
            "gap": None,
            "more": False,
            "ended": False,
        }


@pytest.mark.parametrize("address", ["/streams/a/events?", "/events?stream=a&"])
async def test_where_nothing_is_the_answer_comes_at_the_end_of_the_wait(web: Web, hand: Hand, address: str) -> None:
    prefix = "a:" if "stream=" in address else ""
    assert await poll(web, address) == {
        "events": [],
        "cursor": f"{prefix}0-0",
        "gap": None,
        "more": False,
        "ended": False,
    }
    last = (await hand.publish("a", drafts("x"), token="1")).id
    found = await poll(web, f"{address}wait=0.2&from=latest")
    assert found == {"events": [], "cursor": f"{prefix}{last}", "gap": None, "more": False, "ended": False}


async def test_a_waiting_client_gets_what_comes_and_costs_no_read_meanwhile(web: Web, hand: Hand) -> None:
    await hand.publish("a", numbered(0, 0), token="0")
    cursor = (await poll(web, "/streams/a/events"))["cursor"]
    waiting = [asyncio.create_task(poll(web, f"/streams/a/events?wait=30&last_event_id={cursor}")) for _ in range(20)]
    await wait_until(lambda: web.hub.subscribers == 20, description="all wait")
    before = await scripts_run(hand)
    await hand.publish("a", numbered(1, 1), token="1")
    for found in await asyncio.gather(*waiting):
        assert [event["data"] for event in found["events"]] == ["1"]
    assert await scripts_run(hand) - before == 1, "the publish itself"


async def scripts_run(hand: Hand) -> int:
    found = await execute(hand.client, "INFO", "commandstats")
    return sum(found.get(name, {"calls": 0})["calls"] for name in ("cmdstat_evalsha", "cmdstat_eval"))


@pytest.mark.parametrize("address", ["/streams/a/events", "/events?stream=a&stream=b"])
@pytest.mark.parametrize("types", ["", "type=t&type=x"])
async def test_following_the_links_gives_every_event_once(web: Web, hand: Hand, address: str, types: str) -> None:
    """Poll by poll, and at the end as an event stream, from where the last poll ended."""
    for name in ("a", "b"):
        for first in range(0, 900, 300):
            await hand.publish(name, [Draft("t", str(first + number)) for number in range(300)], token=str(first))
    names = ["a", "b"] if "stream=" in address else ["a"]
    got: list[str] = []
    as_stream = ""
    url = f"{address}{'&' if '?' in address else '?'}{types}&from=earliest&wait=0"
    while len(got) < 900 * len(names):
        response = await web.client.get(url, headers=JSON)
        got += [event["id"].partition(",")[0].rpartition(":")[2] for event in response.json()["events"]]
        assert all(event.get("stream", "a") in names for event in response.json()["events"])
        url, as_stream = link(response, "next"), link(response, "alternate monitor")
        assert "from=" not in url
        assert ("type=t&type=x" in url) == bool(types)
    expected = [str(event.id) for name in names for event in await hand.log(name)]
    assert sorted(got) == sorted(expected)
    async with reading(web.client, as_stream) as reader:
        assert (await reader.next()).event == "position"
        last = (await hand.publish("a", drafts("more"), token="more")).id
        assert str(last) in (await reader.next()).id


async def test_links_that_proxies_would_refuse_are_left_out(web: Web) -> None:
    for count, has_links in [(2, True), (32, False)]:
        query = "&".join(f"stream={number:02}{'n' * 60}" for number in range(count))
        response = await web.client.get(f"/events?{query}", headers=JSON)
        assert ("link" in response.headers) == has_links
        assert response.json()["cursor"].count(":0-0") == count


async def test_events_of_several_streams_name_theirs(web: Web, hand: Hand) -> None:
    a = (await hand.publish("a", drafts("x"), token="1")).id
    found = await poll(web, "/events?stream=b&stream=a")
    assert found["events"] == [{"stream": "a", "id": f"a:{a},b:0-0", "type": "t", "data": "x"}]
    assert found["cursor"] == f"b:0-0,a:{a}"


async def test_the_end_is_told_with_the_last_events_and_ever_after(web: Web, hand: Hand) -> None:
    await hand.publish("a", drafts("x"), token="1")
    last = await hand.publish("a", [Draft("complete", "{}")], token="2", ends=True)
    found = await poll(web, "/streams/a/events?wait=30")
    assert ([event["type"] for event in found["events"]], found["ended"]) == (["t", "complete"], True)
    again = f"/streams/a/events?wait=30&last_event_id={found['cursor']}"
    assert await poll(web, again) == {"events": [], "cursor": str(last.id), "gap": None, "more": False, "ended": True}


async def test_links_lead_no_further_than_to_the_end(web: Web, hand: Hand) -> None:
    await hand.publish("a", drafts("x"), token="1")
    assert "next" in (await web.client.get("/streams/a/events", headers=JSON)).links
    await hand.publish("a", [Draft("complete", "{}")], token="2", ends=True)
    for query in ("", "?from=latest"):
        response = await web.client.get(f"/streams/a/events{query}", headers=JSON)
        assert (response.json()["ended"], response.links) == (True, {})


@pytest.mark.parametrize("address", ["/streams/a/events?", "/events?stream=a&"])
async def test_who_waits_for_a_stream_is_told_that_it_is_deleted(web: Web, hand: Hand, address: str) -> None:
    await hand.publish("a", drafts("x"), token="1")
    cursor = (await poll(web, address))["cursor"]
    waiting = asyncio.create_task(poll(web, f"{address}wait=30&last_event_id={cursor}"))
    await wait_until(lambda: web.hub.subscribers == 1, description="it waits")
    assert (await web.client.delete("/streams/a")).status_code == 204
    found = await waiting
    assert [(event["type"], event["data"]) for event in found["events"]] == [("cancelled", '{"reason":"deleted"}')]
    assert (found["gap"], found["ended"]) == (None, True)
    again = await poll(web, f"{address}wait=30&last_event_id={found['cursor']}")
    assert (again["events"], again["ended"]) == ([], True)


async def test_a_gap_is_told_in_its_own_member(web: Web, hand: Hand, keys: Keys) -> None:
    first = (await hand.publish("a", numbered(0, 9), token="1")).id
    await execute(hand.client, "XTRIM", keys.log("a"), "MAXLEN", 2)
    found = await poll(web, f"/streams/a/events?last_event_id={first}")
    resumed_at = str(EventId(first.generation, 8))
    assert found["gap"] == {"stream": "a", "requested": str(first), "resumed_at": resumed_at, "missed": 7}
    assert [event["data"] for event in found["events"]] == ["8", "9"]


async def test_a_loss_is_told_however_short_the_wait(web: Web, hand: Hand) -> None:
    await hand.publish("a", drafts("x"), token="1")
    found = await poll(web, f"/streams/a/events?last_event_id={2**60}-7")
    assert (found["gap"]["requested"], found["events"], found["more"]) == (f"{2**60}-7", [], True)
    again = await poll(web, f"/streams/a/events?last_event_id={found['cursor']}")
    assert [event["data"] for event in again["events"]] == ["x"]


async def test_what_a_filter_leaves_out_moves_the_cursor(web: Web, hand: Hand) -> None:
    first = (await hand.publish("a", [Draft("log", "{}")] * 3, token="1")).id
    found = await poll(web, "/streams/a/events?type=token")
    assert found == {
        "events": [],
        "cursor": str(EventId(first.generation, 2)),
        "gap": None,
        "more": False,
        "ended": False,
    }


async def rare(hand: Hand, name: str, *, wanted: int = 1) -> list[EventId]:
    """Thousands of events, and here and there one that is wanted, with a key; the ids of these."""
    ids: list[EventId] = []
    for number in range(wanted):
        for batch in range(2):
            await hand.publish(name, [Draft("noise", "{}")] * 1000, token=f"{number}-{batch}")
        ids.append((await hand.publish(name, [Draft("want", str(number))], token=f"w{number}")).id)
    return ids


@pytest.mark.parametrize("address", ["/streams/a/events?", "/events?stream=b&stream=a&"])
@pytest.mark.parametrize("query", ["type=want", "type=want&compact=true", "type=want&wait=30"])
async def test_what_is_stored_is_looked_through_for_a_wanted_event_whatever_the_wait(
    web: Web, hand: Hand, address: str, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.web.poll._READING_SECONDS", 30.0)
    await rare(hand, "a")
    found = await poll(web, f"{address}{query}")
    assert [event["data"] for event in found["events"]] == ["0"]
    assert found["more"] is False


@pytest.mark.parametrize("address", ["/streams/a/events?", "/events?stream=b&stream=a&"])
@pytest.mark.parametrize("query", ["type=other", "type=other&compact=true"])
async def test_nothing_and_no_more_means_that_nothing_wanted_is_stored(
    web: Web, hand: Hand, address: str, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.web.poll._READING_SECONDS", 30.0)
    [last] = await rare(hand, "a")
    found = await poll(web, f"{address}{query}")
    assert (found["events"], found["more"]) == ([], False)
    assert found["cursor"].endswith(str(last))


@pytest.mark.parametrize("address", ["/streams/a/events?", "/events?stream=a&stream=b&"])
@pytest.mark.parametrize("query", ["type=want", "type=want&compact=true"])
@pytest.mark.parametrize("reading_seconds", [0.0, 30.0])
async def test_an_answer_that_ends_before_what_is_stored_says_that_there_may_be_more(
    web: Web, hand: Hand, address: str, query: str, reading_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Because it is full, or because it has been looked for long enough."""
    monkeypatch.setattr("server.web.poll._READING_SECONDS", reading_seconds)
    for name in ("a", "b") if "stream=b" in address else ("a",):
        await rare(hand, name, wanted=3)
    first = found = await poll(web, f"{address}{query}")
    assert first["more"] is True
    assert bool(first["events"]) == bool(reading_seconds)
    got = [event["data"] for event in found["events"]]
    while found["more"]:
        found = await poll(web, f"{address}{query}&last_event_id={found['cursor']}")
        got += [event["data"] for event in found["events"]]
    assert sorted(got) == sorted(["0", "1", "2"] * (2 if "stream=b" in address else 1))


async def test_a_log_that_lacks_the_cursor_has_more_while_another_fills_the_answers(web: Web, hand: Hand) -> None:
    for name in ("a", "b"):
        await hand.publish(name, drafts(name), token=name)
    found = await poll(web, "/events?stream=a&stream=b&last_event_id=a:9999999999999-0,b:0-0")
    assert ([event["data"] for event in found["events"]], found["more"]) == (["b"], True)


async def test_a_worker_that_is_missed_does_not_end_the_wait(web: Web, hand: Hand) -> None:
    record = await hand.running("x", lease_ms=0)
    cursor = (await poll(web, "/tasks/x/events"))["cursor"]
    waiting = asyncio.create_task(poll(web, f"/tasks/x/events?wait=30&last_event_id={cursor}"))
    await wait_until(lambda: web.hub.subscribers == 1, description="it waits")
    [subscription] = web.hub._subscriptions
    await wait_until(lambda: subscription.strands[0]._told_silence is not None, description="it is told")
    await hand.append(record, 1, drafts("1"))
    assert [event["type"] for event in (await waiting)["events"]] == ["stalled", "t"]


@pytest.mark.parametrize("wait", ["-1", "61", "60.5", "x", "1e1", "٣", "1.2345"])
@pytest.mark.parametrize("headers", [JSON, EVENT_STREAM])
async def test_a_wait_that_is_none_is_400_before_anything_starts(web: Web, wait: str, headers: dict[str, str]) -> None:
    for address in ("/streams/a/events", "/stream/countdown/5"):
        response = await web.client.get(f"{address}?wait={wait}", headers=headers)
        assert response.status_code == 400
        assert f"'wait' is '{wait}'. Use a number of seconds from 0 to 60." in response.json()["detail"]
    assert (await web.client.get("/tasks")).json()["tasks"] == []


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "text/event-stream"),
        ("application/json, text/event-stream", "text/event-stream"),
        ("application/json;q=0", "text/event-stream"),
        ("application/json", "application/json"),
        ("text/html, Application/JSON;q=0.5", "application/json"),
    ],
)
async def test_json_is_for_those_who_name_it_and_no_event_stream(web: Web, accept: str, content_type: str) -> None:
    async with web.client.stream("GET", "/streams/a/events", headers={"accept": accept}) as response:
        assert response.headers["content-type"] == content_type


async def test_a_client_that_goes_is_not_waited_for(web: Web) -> None:
    waiting = asyncio.create_task(web.client.get("/streams/a/events?wait=60", headers=JSON))
    await wait_until(lambda: web.hub.subscribers == 1, description="it waits")
    [exchange] = web.client.transport.running
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await wait_until(lambda: web.hub.subscribers == 0, description="it is forgotten")
    await asyncio.wait({exchange})


async def test_a_full_server_says_when_to_come_back(redis_url: str, worker: PlayedWorker) -> None:
    async with serving(redis_url, max_connections=1) as web:
        await web.until_ready()
        async with reading(web.client, "/stream/system"):
            await refused(web)


async def test_without_redis_the_answer_says_when_to_come_back() -> None:
    with RedisServer() as server:
        url = server.url
    async with serving(url) as web:
        await refused(web)


async def test_a_server_about_to_stop_answers_those_who_wait_and_refuses_the_next(web: Web) -> None:
    waiting = asyncio.create_task(poll(web, "/streams/a/events?wait=60"))
    await wait_until(lambda: web.hub.subscribers == 1, description="it waits")
    await web.app.state.drain()
    assert await waiting == {"events": [], "cursor": "0-0", "gap": None, "more": False, "ended": False}
    await refused(web)


async def refused(web: Web) -> None:
    for address in ("/streams/a/events?wait=1", "/events?stream=a&stream=b"):
        response = await web.client.get(address, headers=JSON)
        assert (response.status_code, response.headers["content-type"]) == (503, "application/problem+json")
        assert int(response.headers["retry-after"]) >= 1


async def test_a_task_links_to_the_events_that_its_answer_does_not_show(web: Web, worker: PlayedWorker) -> None:
    task_id = (await web.create())["id"]
    response = await web.client.get(f"/tasks/{task_id}")
    assert link(response, "monitor") == f"/tasks/{task_id}/events?last_event_id=0-0"
    async with worker.run(task_id) as writer:
        await writer.emit(Draft("token", "{}"))
        await writer.flush()
        response = await web.client.get(f"/tasks/{task_id}")
        assert response.headers["link"].endswith('; rel="monitor"; type="text/event-stream"')
        async with reading(web.client, link(response, "monitor")) as reader:
            await reader.next()
            await writer.emit(Draft("log", "{}"))
            await writer.finish(Status.COMPLETED, '{"result":null}')
            assert [each.event for each in await reader.rest()] == ["log", "complete"]
    response = await web.client.get(f"/tasks/{task_id}")
    assert (await web.client.get(link(response, "monitor"), headers=EVENT_STREAM)).status_code == 204

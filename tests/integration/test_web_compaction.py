"""`?compact=true` over HTTP: on every event stream, as JSON too, and refused where it is misspelt."""

from __future__ import annotations

import json

import pytest

from server.streams.event import Draft
from server.streams.records import Status
from tests.support.event_reader import EVENT_STREAM, data_of, reading
from tests.support.log_hand import Hand
from tests.support.open_streams import problem, publish
from tests.support.played_worker import PlayedWorker
from tests.support.web import Web

PATH = "/streams/chat/events?compact=true"


async def written(web: Web, hand: Hand) -> list[str]:
    """A chat that has ended, and the ids of what was published to it."""
    pieces = [{"type": "token", "append": f"{number} "} for number in range(300)]
    states = [{"type": "state", "data": number, "key": "mood"} for number in range(3)]
    ids = await publish(web, [*pieces, *states])
    await hand.publish("chat", [Draft("complete", "{}")], token="end", ends=True)
    return ids


async def test_published_texts_and_states_are_read_late_as_one_event_each(web: Web, hand: Hand) -> None:
    ids = await written(web, hand)
    async with reading(web.client, PATH) as reader:
        token, state, end = await reader.rest()
    assert (token.event, token.id, data_of(token)["text"]) == ("token", ids[299], "".join(f"{n} " for n in range(300)))
    assert (state.event, state.id, state.data, end.event) == ("state", ids[302], "2", "complete")
    async with reading(web.client, PATH, headers={"last-event-id": ids[100]}) as reader:
        assert data_of(await reader.next())["text"] == "".join(f"{n} " for n in range(101, 300))
    response = await web.client.get(PATH, headers={**EVENT_STREAM, "last-event-id": end.id})
    assert response.status_code == 204


async def test_a_task_is_read_late_as_its_text_on_its_own_address_and_among_others(
    web: Web, hand: Hand, worker: PlayedWorker
) -> None:
    await written(web, hand)
    task_id = (await web.create())["id"]
    async with worker.run(task_id) as writer:
        for word in ("to ", "be ", "continued"):
            await writer.emit(Draft("token", json.dumps({"text": word})))
        await writer.finish(Status.COMPLETED, '{"result":null}')
    async with reading(web.client, f"/tasks/{task_id}/events?compact=true") as reader:
        alone = await reader.rest()
    assert [(each.event, data_of(each).get("text")) for each in alone][1:] == [
        ("token", "to be continued"),
        ("complete", None),
    ]
    path = f"/events?stream=tasks.{task_id}&stream=chat&compact=true&type=token"
    async with reading(web.client, path) as reader:
        among = await reader.rest()
    own = [each for each in among if each.id.startswith(f"tasks.{task_id}:")]
    assert [each.data for each in own] == [each.data for each in alone]
    assert [each.event for each in among if each not in own] == ["token", "complete"]


async def test_a_poll_answers_with_the_compacted_past_and_goes_on_behind_it(web: Web, hand: Hand) -> None:
    ids = await written(web, hand)
    found: list[dict[str, str]] = []
    path = PATH
    while True:
        response = await web.client.get(path, headers={"accept": "application/json"})
        document = response.json()
        found += document["events"]
        if document["ended"]:
            break
        path = response.links["next"]["url"]
        assert "compact=true" in path
    assert [(event["id"], event["type"]) for event in found[:2]] == [(ids[299], "token"), (ids[302], "state")]
    assert [event["type"] for event in found[2:]] == ["complete"]


async def test_false_and_nothing_say_not_compacted(web: Web, hand: Hand) -> None:
    ids = await written(web, hand)
    for value in ("false", ""):
        async with reading(web.client, f"/streams/chat/events?compact={value}") as reader:
            assert (await reader.next()).id == ids[0]


@pytest.mark.parametrize("value", ["1", "yes", "True", "False"])
async def test_another_value_is_refused_with_a_sentence(web: Web, value: str) -> None:
    for path in ("/streams/chat/events?", "/events?stream=chat&", "/tasks/stream?", "/stream/system?"):
        detail = problem(await web.client.get(f"{path}compact={value}", headers=EVENT_STREAM), 400)["detail"]
        assert detail == f"'compact' is '{value}'. Use true or false, or leave it out."

"""`open_stream`: what any coroutine writes, and what readers of the stream's address get of it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from server.streams.connections import execute
from tests.support.event_reader import EVENT_STREAM, data_of, reading, types_of
from tests.support.fault_proxy import FaultProxy
from tests.support.log_hand import Hand
from tests.support.waiting import wait_until
from tests.support.web import Web
from workers import InvalidInput, LogUnavailable, StreamClosed, TooLarge, open_stream

CHAT = "/streams/chat.42/events"


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(redis_url) as found:
        yield found


async def stored(hand: Hand) -> list[tuple[str, Any]]:
    return [(event.type, json.loads(event.data)) for event in await hand.log("chat.42")]


async def connections(hand: Hand) -> set[str]:
    """Ids of those by which streams are written; threads leave theirs until the process ends."""
    listed: bytes = await execute(hand.client, "CLIENT", "LIST")
    return {line.split()[0] for line in listed.decode().splitlines() if " name=reprise-stream " in line}


async def break_off(url: str, *, patience_seconds: float = 300) -> None:
    async with open_stream(url, "chat.42", patience_seconds=patience_seconds) as stream:
        await stream.emit("n", 1)
        raise ZeroDivisionError


async def test_a_reader_who_was_there_before_gets_every_event_once_in_order_and_the_end(
    web: Web, redis_url: str
) -> None:
    async with reading(web.client, CHAT) as reader:
        assert (await reader.next()).event == "position"
        async with open_stream(redis_url, "chat.42") as stream:
            await stream.emit("hello", {"n": 1})
            await stream.token("a")
            await stream.thought("b")
            await stream.log("c")
            await stream.progress(1, 4, "d")
            end = await stream.complete({"n": 5})
        events = await reader.rest()
    assert [(event.event, data_of(event)) for event in events] == [
        ("hello", {"n": 1}),
        ("token", {"text": "a"}),
        ("thought", {"text": "b"}),
        ("log", {"message": "c"}),
        ("progress", {"step": 1, "total_steps": 4, "message": "d", "percentage": 25}),
        ("complete", {"result": {"n": 5}}),
    ]
    assert events[-1].id == end


async def test_a_reader_who_comes_late_or_again_gets_what_it_lacks_and_204_at_the_end(web: Web, redis_url: str) -> None:
    async with open_stream(redis_url, "chat.42") as stream:
        await stream.token("a")
        middle = await stream.flush()
        await stream.token("b")
        end = await stream.fail("it broke", code="broken")
    assert middle
    async with reading(web.client, CHAT) as reader:
        assert types_of(await reader.rest()) == ["token", "token", "error"]
    async with reading(web.client, CHAT, headers={"last-event-id": middle}) as reader:
        events = await reader.rest()
    assert [(event.event, data_of(event)) for event in events] == [
        ("token", {"text": "b"}),
        ("error", {"error": "it broke", "code": "broken"}),
    ]
    response = await web.client.get(CHAT, headers={**EVENT_STREAM, "last-event-id": end})
    assert response.status_code == 204


@pytest.mark.parametrize("name", [".hidden", "a b", "ü", "a" * 129, "a%00"])
async def test_an_address_with_a_name_that_no_stream_can_have_is_unknown(web: Web, name: str) -> None:
    response = await web.client.get(f"/streams/{name}/events", headers=EVENT_STREAM)
    assert response.status_code == 404
    assert "is not a stream name" in response.json()["detail"]


async def test_a_task_is_read_at_the_address_of_its_stream_too(web: Web) -> None:
    task_id = (await web.create())["id"]
    async with reading(web.client, f"/streams/tasks.{task_id}/events") as reader:
        assert (await reader.next()).event == "position"
    unknown = await web.client.get("/streams/tasks.unknown/events", headers=EVENT_STREAM)
    assert unknown.status_code == 404


@pytest.mark.parametrize("name", ["system", "tasks"])
async def test_streams_of_reprise_itself_are_read_at_their_names_and_begin_at_their_end(web: Web, name: str) -> None:
    task_id = (await web.create())["id"]
    async with reading(web.client, f"/streams/{name}/events") as reader:
        assert (await reader.next()).event == "position"
        await web.client.post(f"/tasks/{task_id}/cancel")
        assert data_of(await reader.next())["task_id"] == task_id


async def test_the_end_of_the_block_stores_everything_and_leaves_the_stream_open(redis_url: str, hand: Hand) -> None:
    async with open_stream(redis_url, "chat.42") as stream:
        for number in range(100):
            await stream.emit("n", number)
    assert await stored(hand) == [("n", number) for number in range(100)]
    async with open_stream(redis_url, "chat.42") as stream:
        await stream.emit("n", 100)
    assert stream.last_id == str((await hand.log("chat.42"))[-1].id)
    assert await stored(hand) == [("n", number) for number in range(101)]


async def test_an_exception_leaves_the_block_after_what_was_emitted_is_stored_and_ends_nothing(
    redis_url: str, hand: Hand
) -> None:
    with pytest.raises(ZeroDivisionError):
        await break_off(redis_url)
    assert await stored(hand) == [("n", 1)]


async def test_a_cancelled_writer_stores_what_was_emitted(redis_url: str, hand: Hand) -> None:
    has_emitted = asyncio.Event()

    async def write() -> None:
        async with open_stream(redis_url, "chat.42") as stream:
            await stream.emit("n", 1)
            has_emitted.set()
            await asyncio.Event().wait()

    writing = asyncio.create_task(write())
    await has_emitted.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await stored(hand) == [("n", 1)]


async def test_an_exception_is_not_replaced_by_one_of_ours(
    proxy: FaultProxy, hand: Hand, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.go_down()
    with caplog.at_level(logging.WARNING), pytest.raises(ZeroDivisionError):
        await break_off(proxy.url, patience_seconds=0.2)
    assert "The last events of the stream chat.42 are not stored" in caplog.text
    proxy.come_back()
    assert await stored(hand) == []


async def test_the_end_of_the_block_tells_of_events_that_could_not_be_stored(proxy: FaultProxy) -> None:
    proxy.go_down()
    with pytest.raises(LogUnavailable, match=r"1 event\(s\) of the stream 'chat.42' are given up"):
        async with open_stream(proxy.url, "chat.42", patience_seconds=0.2) as stream:
            await stream.emit("n", 1)


async def test_streams_that_are_open_together_share_one_connection_and_leave_none(redis_url: str, hand: Hand) -> None:
    before = await connections(hand)
    async with open_stream(redis_url, "a") as a, open_stream(redis_url, "b") as b, open_stream(redis_url, "a") as c:
        await asyncio.gather(*[each.emit("n", 1) for each in (a, b, c)])
        await asyncio.gather(*[each.flush() for each in (a, b, c)])
        [ours] = await connections(hand) - before

    async def is_gone() -> bool:
        return ours not in await connections(hand)

    await wait_until(is_gone, description="the connection is closed")
    assert (len(await hand.log("a")), len(await hand.log("b"))) == (2, 1)


@pytest.mark.parametrize("name", ["system", "tasks", "tasks.k5x2wq"])
def test_streams_of_reprise_itself_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="Reprise's own"):
        open_stream("redis://localhost", name)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"name": "a b"}, "'a b' is not a stream name"),
        ({"redis_url": "http://localhost"}, "The address of Redis begins with 'http'"),
        ({"prefix": "{x}"}, "has a brace"),
        ({"patience_seconds": 0}, "patience_seconds is 0. Use a number from 0.01 to 86400"),
        ({"patience_seconds": float("nan")}, "patience_seconds is nan"),
        ({"retention_seconds": float("inf")}, "retention_seconds is inf"),
        ({"max_events": -1}, "max_events is -1"),
        ({"max_event_bytes": 0}, "max_event_bytes is 0"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once_with_the_way_out(given: dict[str, object], says: str) -> None:
    usual: dict[str, object] = {"redis_url": "redis://localhost", "name": "chat"}
    with pytest.raises(InvalidInput, match=says):
        open_stream(**(usual | given))  # pyright: ignore[reportArgumentType]


async def test_an_event_that_breaks_a_rule_is_refused_and_the_others_are_stored(redis_url: str, hand: Hand) -> None:
    async with open_stream(redis_url, "chat.42", max_event_bytes=10) as stream:
        await stream.emit("n", 1)
        with pytest.raises(InvalidInput, match="Reprise's own"):
            await stream.emit("complete", {})
        with pytest.raises(InvalidInput, match="is not an event type"):
            await stream.emit("a\nb")
        with pytest.raises(InvalidInput, match="cannot be written as JSON"):
            await stream.emit("n", {1, 2})
        with pytest.raises(InvalidInput, match="The error of a failed stream is 5, which is no text"):
            await stream.fail(5)  # pyright: ignore[reportArgumentType]
        with pytest.raises(TooLarge, match="the limit is 10"):
            await stream.emit("n", "x" * 11)
        with pytest.raises(TooLarge, match="the limit is 10"):
            await stream.complete("x" * 11)
        await stream.emit("n", 2)
    assert await stored(hand) == [("n", 1), ("n", 2)]


async def test_a_handle_that_is_not_open_or_open_already_says_so(redis_url: str) -> None:
    stream = open_stream(redis_url, "chat.42")
    with pytest.raises(StreamClosed, match="not open yet"):
        await stream.token("a")
    async with stream:
        with pytest.raises(StreamClosed, match="open already"):
            await stream.__aenter__()
    with pytest.raises(StreamClosed, match="is closed"):
        await stream.token("a")


async def test_a_handle_that_was_carried_over_a_fork_says_so(
    redis_url: str, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_stream(redis_url, "chat.42") as stream:
        await stream.token("first")
        await stream.flush()
        with monkeypatch.context() as patched:
            patched.setattr(os, "getpid", lambda: 7)
            with pytest.raises(StreamClosed, match="carried over a fork into process 7"):
                await stream.token("a")
            await stream.__aexit__(None, None, None)  # the child's: it must not end the parent's
            before = await connections(hand)
            async with open_stream(redis_url, "chat.42") as own:
                await own.token("of the child")
                await own.flush()
                # On the parent's connection the replies of both would be mixed.
                assert len(await connections(hand) - before) == 1
        await stream.token("of the parent")
    texts = [data["text"] for _, data in await stored(hand)]
    assert texts == ["first", "of the child", "of the parent"]


async def test_nothing_is_lost_or_doubled_for_a_reader_while_the_writers_connection_breaks(
    web: Web, proxy: FaultProxy
) -> None:
    async with reading(web.client, CHAT) as reader:
        await reader.next()
        async with open_stream(proxy.url, "chat.42") as stream:
            for number in range(30):
                if number % 3 == 0:
                    proxy.lose_reply("publish")
                if number % 5 == 0:
                    proxy.lose_request("publish")
                await stream.emit("n", number)
                await stream.flush()
        numbers = [data_of(event) for event in await reader.take(30)]
    assert numbers == list(range(30))


async def test_a_stream_that_a_program_writes_is_on_the_list_of_streams(web: Web, redis_url: str, hand: Hand) -> None:
    async def listed() -> list[tuple[str, int]]:
        found = (await web.client.get("/streams")).json()["streams"]
        return [(each["name"], each["length"]) for each in found]

    before = await connections(hand)
    async with open_stream(redis_url, "chat.41") as stream, open_stream(redis_url, "chat.43") as other:
        await other.emit("n", 1)
        await other.flush()
        await stream.emit("n", 1)
        await other.emit("n", 2)
        await other.flush()
        assert len(await connections(hand) - before) == 1
    with pytest.raises(ZeroDivisionError):
        await break_off(redis_url)
    assert await listed() == [("chat.41", 1), ("chat.42", 1), ("chat.43", 2)]


async def test_marks_of_a_program_stand_in_the_entries(redis_url: str, hand: Hand) -> None:
    async with open_stream(redis_url, "chat.42") as stream:
        await stream.emit("price", 7, key="gold")
        await stream.append("answer", "Hel")
        await stream.append("answer", "lo")
        await stream.token("plain")
        for key in ("", "a\nb", "k" * 129):
            with pytest.raises(InvalidInput, match="is not the key of an event"):
                await stream.emit("price", 7, key=key)
    rows = await execute(hand.client, "XRANGE", hand.keys.log("chat.42"), "-", "+")
    fields = [entry for _, entry in rows]
    assert [(each.get(b"k"), each.get(b"a")) for each in fields] == [
        (b"gold", None),
        (None, b"text"),
        (None, b"text"),
        (None, None),
    ]
    assert [each[b"d"] for each in fields[1:3]] == [b'{"text":"Hel"}', b'{"text":"lo"}']


async def write_on_behind_a_deletion(web: Web, url: str) -> None:
    async with open_stream(url, "chat.42") as stream:
        await stream.emit("n", 1)
        await stream.flush()
        assert (await web.client.delete("/streams/chat.42")).status_code == 204
        await stream.emit("n", 2)
        with pytest.raises(StreamClosed, match="was deleted"):
            await stream.flush()
        (await web.client.put("/streams/chat.42")).raise_for_status()


async def test_a_handle_is_told_that_its_stream_was_deleted(web: Web, redis_url: str, hand: Hand) -> None:
    with pytest.raises(StreamClosed, match="was deleted"):
        await write_on_behind_a_deletion(web, redis_url)
    assert await stored(hand) == []

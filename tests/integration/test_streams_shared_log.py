"""Shared streams on a real server: `publish.lua`, and `Log` above it when replies are lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from server.fanout.continuity import follows
from server.streams.calls import Reply
from server.streams.connections import connect, execute
from server.streams.errors import Conflict, LogUnavailable, StreamsError
from server.streams.event import Draft
from server.streams.ids import ORIGIN, EventId
from server.streams.keys import Keys
from server.streams.log import Log
from tests.support.fault_proxy import FaultProxy
from tests.support.log_hand import LIFETIMES, Hand, drafts
from tests.support.redis_server import RedisServer


def log_over(hand: Hand) -> Log:
    return Log(hand.client, hand.keys, lifetimes=LIFETIMES, max_events=1000)


async def lose_tail(hand: Hand, *ids: EventId) -> None:
    """A failover to a replica that had not received these: the ids are free again, under another replication id."""
    key, rows = hand.keys.log("chat"), await hand.log("chat")
    await execute(hand.client, "DEL", key)
    for event in rows:
        if event.id not in ids:
            await execute(hand.client, "XADD", key, str(event.id), "e", event.type, "d", event.data, "r", "before")
    await execute(hand.client, "PEXPIRE", key, 60_000)


# publish.lua


async def test_the_script_counts_on_within_a_generation(hand: Hand):
    first = await hand.publish("chat", drafts("a", "b"), token="1")
    second = await hand.publish("chat", drafts("c"), token="2", entropy=900)
    assert (first.outcome, second) == ("stored", Reply("stored", EventId(first.id.generation, 2)))
    found = await hand.log("chat")
    assert [(event.id.sequence, event.data) for event in found] == [(0, "a"), (1, "b"), (2, "c")]
    assert [event.previous for event in found] == [ORIGIN, None, None]


async def test_a_token_takes_effect_once(hand: Hand):
    first = await hand.publish("chat", drafts("a", "b"), token="1")
    assert await hand.publish("chat", drafts("a", "b"), token="1") == Reply("repeated", first.id)
    assert await hand.publish("chat", drafts("other"), token="1") == Reply("conflict")
    assert [event.data for event in await hand.log("chat")] == ["a", "b"]


@pytest.mark.parametrize("events", [drafts("a", "b"), drafts("b", "a"), [Draft("ta", "")], [Draft("t", "a\0t\0b")]])
async def test_a_token_is_bound_to_the_exact_events(hand: Hand, events: list[Draft]):
    await hand.publish("chat", drafts("ab"), token="1")
    assert (await hand.publish("chat", events, token="1")).outcome == "conflict"


async def test_behind_a_terminal_event_a_stream_is_closed(hand: Hand):
    first = await hand.publish("chat", [Draft("complete", "{}")], token="1", ends=True)
    assert await hand.publish("chat", drafts("a"), token="2") == Reply("closed", first.id)
    assert (await hand.publish("chat", [Draft("complete", "{}")], token="1", ends=True)).outcome == "repeated"
    assert (await hand.read("chat")).is_closed


async def test_behind_an_id_too_large_to_count_on_from_nothing_is_published(hand: Hand):
    await execute(hand.client, "XADD", hand.keys.log("chat"), "9999999999999999-0", "e", "x")
    await execute(hand.client, "PEXPIRE", hand.keys.log("chat"), 60_000)
    assert await hand.publish("chat", drafts("a"), token="1") == Reply("exhausted")
    with pytest.raises(StreamsError, match="too large"):
        await log_over(hand).publish("chat", drafts("a"))


async def test_another_incarnation_of_the_server_opens_a_generation_that_names_its_predecessor(hand: Hand):
    first = await hand.publish("chat", drafts("a"), token="1")
    await execute(hand.client, "DEBUG", "CHANGE-REPL-ID")
    second = await hand.publish("chat", drafts("b"), token="2", known=first.id)
    event = (await hand.log("chat"))[-1]
    assert second.id == event.id
    assert event.id.generation > first.id.generation
    assert (event.id.sequence, event.previous, event.lost) == (0, first.id, None)
    assert follows(first.id, event)


async def test_a_failover_that_lost_a_tail_the_publisher_knows_of_is_marked_as_a_loss(hand: Hand):
    first = await hand.publish("chat", drafts("a", "b", "c"), token="1")
    known = EventId(first.id.generation, 2)
    await lose_tail(hand, known)
    await hand.publish("chat", drafts("d"), token="2", known=known)
    event = (await hand.log("chat"))[-1]
    assert (event.previous, event.lost) == (EventId(first.id.generation, 1), known)
    assert not follows(known, event)


async def test_after_a_failover_no_id_is_given_out_twice(hand: Hand):
    first = await hand.publish("chat", drafts("a", "b", "c"), token="1")
    await lose_tail(hand, EventId(first.id.generation, 2))
    assert (await hand.publish("chat", drafts("d"), token="2")).id.generation > first.id.generation


async def test_a_log_that_is_gone_goes_on_above_what_the_publisher_knows(hand: Hand):
    known = EventId(9_000_000_000_000, 4)
    reply = await hand.publish("chat", drafts("a"), token="1", known=known, entropy=5)
    [event] = await hand.log("chat")
    assert (reply.id.generation, event.previous) == (known.generation + 1 + 5, known)


async def test_a_foreign_entry_at_the_end_opens_a_generation_behind_it(hand: Hand):
    await execute(hand.client, "XADD", hand.keys.log("chat"), "7-3", "e", "x", "d", "y")
    await hand.publish("chat", drafts("a"), token="1")
    foreign, own = await hand.log("chat")
    assert (str(foreign.id), own.previous) == ("7-3", foreign.id)


async def test_a_shared_log_and_its_tokens_expire_and_are_trimmed(hand: Hand):
    await hand.publish("chat", drafts(*map(str, range(500))), token="1", max_events=100)
    assert 100 <= len(await hand.log("chat")) <= 300
    assert 0 < await execute(hand.client, "PTTL", hand.keys.log("chat")) <= LIFETIMES.retention_ms
    assert 0 < await execute(hand.client, "PTTL", hand.keys.idempotency("chat", "1")) <= 60_000


# Log


async def test_publishing_gives_the_ids_and_the_same_ones_for_the_same_token(hand: Hand):
    log = log_over(hand)
    first = await log.publish("chat", drafts("a", "b"), token="key")
    assert await log.publish("chat", drafts("a", "b"), token="key") == first
    [third] = await log.publish("chat", drafts("c"))
    assert [first[0].next(), first[1].next()] == [first[1], third]


async def test_a_reused_token_and_a_closed_stream_are_conflicts(hand: Hand):
    log = log_over(hand)
    await log.publish("chat", drafts("a"), token="key")
    with pytest.raises(Conflict, match="idempotency key"):
        await log.publish("chat", drafts("b"), token="key")
    await hand.publish("chat", [Draft("complete", "{}")], token="end", ends=True)
    with pytest.raises(Conflict, match="'chat' is closed"):
        await log.publish("chat", drafts("c"))


async def test_an_append_whose_request_or_reply_was_lost_is_stored_once(
    hand: Hand, redis_server: RedisServer, keys: Keys
):
    async with FaultProxy(redis_server.url) as proxy:
        client = connect(proxy.url, name="test")
        log = Log(client, keys, lifetimes=LIFETIMES, max_events=1000)
        for name, fault in (("reply", proxy.lose_reply), ("request", proxy.lose_request)):
            happened = fault("publish")
            await log.publish("chat", drafts(name))
            assert happened.is_set()
        await client.aclose()
    assert [event.data for event in await hand.log("chat")] == ["reply", "request"]


async def test_publishing_gives_up_while_redis_stays_away_and_the_token_makes_asking_again_safe(
    hand: Hand, redis_server: RedisServer, keys: Keys
):
    async with FaultProxy(redis_server.url) as proxy:
        client = connect(proxy.url, name="test")
        log = Log(client, keys, lifetimes=LIFETIMES, max_events=1000)
        proxy.lose_reply("publish")
        publishing = asyncio.create_task(log.publish("chat", drafts("a"), token="key"))
        await asyncio.wait_for(proxy.lose_request("publish").wait(), 30)
        proxy.go_down()
        with pytest.raises(LogUnavailable, match="did not answer"):
            await publishing
        proxy.come_back()
        [found] = await log.publish("chat", drafts("a"), token="key")
        await client.aclose()
    assert [(event.id, event.data) for event in await hand.log("chat")] == [(found, "a")]


async def test_which_logs_still_end_where_they_were_seen_to(hand: Hand):
    log = log_over(hand)
    [chat] = await log.publish("chat", drafts("a"))
    [news] = await log.publish("news", drafts("a"))
    await log.publish("news", drafts("b"))
    asked = [("chat", chat), ("news", news), ("gone", EventId(5, 1)), ("never", ORIGIN), ("chat", chat.next())]
    assert await log.ends_at(asked) == [True, False, False, True, False]


async def test_scripts_are_loaded_again_after_redis_forgot_them(hand: Hand):
    await hand.publish("chat", drafts("a"), token="1")
    await execute(hand.client, "SCRIPT", "FLUSH")
    assert (await hand.publish("chat", drafts("b"), token="2")).outcome == "stored"


async def test_a_refusal_of_redis_is_told_as_such(hand: Hand):
    await execute(hand.client, "SET", hand.keys.log("chat"), "not a stream", "PX", 60_000)
    with pytest.raises(LogUnavailable, match=r"Redis refused: .*WRONGTYPE"):
        await hand.publish("chat", drafts("a"), token="1")
    await hand.lose(hand.keys.log("chat"))


async def test_a_redis_that_is_frozen_is_given_up_after_two_tries_and_the_key_stands_for_the_events_later(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("server.streams.log._LATEST_TRY_SECONDS", 0.4)
    with RedisServer() as server:
        patient, client = connect(server.url, name="patient"), connect(server.url, name="test", socket_timeout=0.3)
        log, frozen = [Log(each, hand.keys, lifetimes=LIFETIMES, max_events=1000) for each in (patient, client)]
        await log.publish("chat", drafts("a"), token="before")
        tries = 0

        async def counted(*command: Any) -> Any:
            nonlocal tries
            tries += 1
            return await send(*command)

        send = client.execute_command
        monkeypatch.setattr(client, "execute_command", counted)
        server.pause()
        with pytest.raises(LogUnavailable):
            await frozen.publish("chat", drafts("b"), token="once")
        server.resume()
        assert 1 <= tries <= 2
        [first] = await log.publish("chat", drafts("b"), token="once")
        assert [event.data for event in (await log.read("chat", limit=10)).events] == ["a", "b"]
        assert await log.publish("chat", drafts("b"), token="once") == [first]
        await client.aclose()
        await patient.aclose()

"""What stays in Redis after everything was used, held against docs/keys.md."""

from __future__ import annotations

from server.streams.connections import execute
from server.streams.dead_letters import DeadLetters
from server.streams.delayed import postpone
from server.streams.event import Draft
from server.streams.keys import Keys
from server.streams.log import Log
from server.streams.marks import continuing, keyed
from server.streams.open_streams import OpenStreams
from server.streams.presence import Presence
from server.streams.records import Status
from server.streams.registry import Registry, TaskType
from server.streams.retention import Retention
from server.streams.tasks import NewTask
from tests.support.key_table import documented_fields, faults, rows
from tests.support.log_hand import LIFETIMES, Hand, drafts
from tests.support.tasks import store_over


async def use_everything(hand: Hand) -> str:
    """Write every kind of key and every field that there is; return the id of the task that still runs."""
    store = store_over(hand.client, hand.keys)
    await Registry(hand.client, hand.keys).heartbeat("w", [TaskType("t", "T.", {})], details={})
    done, cancelled, deleted = [(await store.create(NewTask("t", {}))).id for _ in range(3)]
    async with hand.writer(await hand.claimed(done)) as writer:
        await writer.emit(Draft("progress", "{}"), {"progress": "50"})
        await writer.finish(Status.COMPLETED, "{}")
    for task_id in (cancelled, deleted):
        await store.cancel(task_id)
    await store.delete(deleted)
    running = (await store.create(NewTask("t", {}), idempotency_key="key")).id
    first = await hand.claimed(running, lease_ms=0)
    resume = f"{first.generation}-0"
    await hand.amend(running, resume_from=resume, checkpoint="{}")
    await hand.claimed(running, nonce="n2")
    failed = await store.create(NewTask("t", {}))
    await hand.claimed(failed.id)
    await hand.retry(failed.id)
    hung = await store.create(NewTask("t", {}))
    await hand.claimed(hung.id)
    await hand.overdue(hung.id)
    followed = await store.create(NewTask("t", {}, on_disconnect="cancel"))
    await Presence(hand.client, hand.keys, store, grace_seconds=1).came(f"tasks.{followed.id}")
    await store.create(NewTask("t", {}, unique_key="k"))
    await postpone(hand.client, hand.keys, failed, not_before_ms=1)
    dead = (await store.create(NewTask("t", {}, max_attempts=1))).id
    await hand.claimed(dead, lease_ms=0)
    await hand.claim(dead, nonce="n2")
    await DeadLetters(hand.client, hand.keys, store, lifetimes=LIFETIMES).add(dead)
    await store.cancel(running)
    log = await hand.publish("chat", [keyed(Draft("t", "a"), "k"), continuing("t", "b", max_bytes=99)], token="1")
    await execute(hand.client, "DEBUG", "CHANGE-REPL-ID")
    await hand.publish("chat", [Draft("complete", "{}")], token="2", known=log.id.next().next(), ends=True)
    await use_settings(hand)
    return running


async def use_settings(hand: Hand) -> None:
    """What is known of streams apart from their logs."""
    log = Log(hand.client, hand.keys, lifetimes=LIFETIMES, max_events=0)
    streams = OpenStreams(hand.client, hand.keys, log, lifetimes=LIFETIMES, max_events=0, max_bytes=0)
    for name in ("deleted", "anew"):
        await streams.create(name, Retention(5))
        await streams.publish(name, drafts("a"), token=None)
        await streams.delete(name)
    await streams.create("anew", Retention(5))
    await streams.publish("anew", drafts("a"), token=None)
    await streams.close("anew", Draft("complete", "{}"))


async def test_every_key_stands_in_the_document_with_its_type_and_its_lifetime(hand: Hand, redis_url: str):
    await use_everything(hand)
    assert faults(redis_url) == {}
    names = {name.decode() for name in await execute(hand.client, "KEYS", "*")}
    assert [name for name in names if not any(row.matches(name) for row in rows())] == []
    written = {row.key for row in rows() if row.type != "channel" and any(row.matches(name) for name in names)}
    assert {row.key for row in rows() if row.type != "channel"} == written


async def test_every_field_of_records_and_entries_stands_in_the_document(hand: Hand):
    running = await use_everything(hand)
    fields, entries = set[str](), set[str]()
    for name in await execute(hand.client, "KEYS", "*:task"):
        fields |= {field.decode() for field in await execute(hand.client, "HKEYS", name)}
    assert fields == documented_fields("Fields of a record")
    of_streams = set[str]()
    for name in ("deleted", "anew"):
        of_streams |= {field.decode() for field in await execute(hand.client, "HKEYS", hand.keys.about(name))}
    assert of_streams == documented_fields("Fields of a stream")
    for stream in ("chat", f"tasks.{running}", "tasks"):
        for _, entry in await execute(hand.client, "XRANGE", hand.keys.log(stream), "-", "+"):
            entries |= {field.decode() for field in entry}
    assert entries == documented_fields("Fields of an entry")


async def test_a_key_that_never_expires_or_has_another_type_is_found(hand: Hand, redis_url: str, keys: Keys):
    await execute(hand.client, "SET", "forgotten", "")
    await execute(hand.client, "SET", keys.log("chat"), "", "PX", 60_000)
    await execute(hand.client, "HSET", keys.types, "a", "b")
    await execute(hand.client, "ZADD", keys.tasks_index, 1, "a")
    await execute(hand.client, "PEXPIRE", keys.tasks_index, 60_000)
    assert faults(redis_url) == {
        "forgotten": "it is not in docs/keys.md and never expires",
        keys.log("chat"): "it is a string, and a stream by docs/keys.md",
        keys.types: "it never expires",
        keys.tasks_index: "it expires, but docs/keys.md says permanent",
    }
    await execute(hand.client, "FLUSHALL")

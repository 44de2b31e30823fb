"""`append.lua` and `repair.lua` on a real server: every answer they can give; one that refuses changes nothing."""

from __future__ import annotations

import pytest

from server.streams.calls import Reply
from server.streams.connections import execute
from server.streams.event import Draft
from server.streams.ids import ORIGIN, EventId
from tests.support.ears import listening
from tests.support.log_hand import Hand, drafts
from tests.support.waiting import wait_until


async def sequences(hand: Hand) -> list[int]:
    return [event.id.sequence for event in await hand.task_log()]


async def test_an_append_behind_the_expected_id_is_stored_with_the_record(hand: Hand):
    record = await hand.running()
    reply = await hand.append(record, 1, drafts("1", "2"), values={"progress": "50"})
    assert reply == Reply("stored")
    log, fields = await hand.task_log(), await hand.fields()
    assert [(event.id.sequence, event.type, event.data) for event in log[1:]] == [(1, "t", "1"), (2, "t", "2")]
    assert (fields["progress"], fields["last_id"]) == ("50", f"{record.generation}-2")


async def test_an_append_that_came_already_differs_and_names_the_last_id(hand: Hand):
    record = await hand.running()
    await hand.append(record, 1, drafts("1", "2"))
    assert await hand.append(record, 1, drafts("1", "2")) == Reply("differs", EventId(record.generation, 2))
    assert await sequences(hand) == [0, 1, 2]


async def test_an_append_to_a_log_that_redis_lost_differs_at_the_origin(hand: Hand):
    record = await hand.running()
    await hand.lose_log()
    assert await hand.append(record, 1, drafts("1")) == Reply("differs", ORIGIN)
    assert await sequences(hand) == []


async def test_an_append_to_a_log_and_record_of_an_earlier_moment_differs_at_their_last_id(hand: Hand):
    record = await hand.running()
    await hand.append(record, 1, drafts("1"))
    names = (hand.keys.log("tasks.a"), hand.keys.record("a"))
    earlier = [(name, await execute(hand.client, "DUMP", name)) for name in names]
    await hand.append(record, 2, drafts("2", "3"))
    for name, dump in earlier:
        await execute(hand.client, "RESTORE", name, 60_000, dump, "REPLACE")
    assert await hand.append(record, 4, drafts("4")) == Reply("differs", EventId(record.generation, 1))
    assert await sequences(hand) == [0, 1]


async def test_an_append_believes_the_log_where_the_record_says_something_else(hand: Hand):
    record = await hand.running()
    await hand.append(record, 1, drafts("1", "2"))
    await hand.amend(last_id=f"{record.generation}-1")
    assert await hand.append(record, 2, drafts("2")) == Reply("differs", EventId(record.generation, 2))
    assert await hand.append(record, 3, drafts("3")) == Reply("stored")
    assert (await hand.fields())["last_id"] == f"{record.generation}-3"
    assert await sequences(hand) == [0, 1, 2, 3]


async def test_an_append_finds_the_last_id_of_a_log_whose_newest_entry_was_deleted(hand: Hand):
    record = await hand.running()
    await hand.append(record, 1, drafts("1", "2"))
    await execute(hand.client, "XDEL", hand.keys.log("tasks.a"), f"{record.generation}-2")
    assert (await hand.append(record, 3, drafts("3"))).outcome == "stored"
    assert await sequences(hand) == [0, 1, 3]


async def test_an_append_finds_the_last_id_of_a_log_that_was_trimmed_to_nothing(hand: Hand):
    record = await hand.running()
    await hand.append(record, 1, drafts("1"))
    await execute(hand.client, "XTRIM", hand.keys.log("tasks.a"), "MAXLEN", 0)
    assert (await hand.append(record, 2, drafts("2"))).outcome == "stored"
    assert await hand.append(record, 2, drafts("2")) == Reply("differs", EventId(record.generation, 2))


async def test_an_append_without_a_record_is_told_that_it_was_lost(hand: Hand):
    record = await hand.running()
    await hand.lose_record()
    assert await hand.append(record, 1, drafts("1")) == Reply("lost", EventId(record.generation, 0))
    assert await hand.fields() == {}


async def test_an_append_of_a_writer_whose_successor_has_claimed_is_fenced(hand: Hand):
    old = await hand.running(lease_ms=0)
    new = await hand.claimed(nonce="n2")
    reply = await hand.append(old, 1, drafts("1"), values={"progress": "99"})
    assert reply == Reply("fenced", EventId(new.generation, 0))
    assert "progress" not in await hand.fields()


async def test_an_append_after_the_task_was_settled_is_fenced(hand: Hand):
    record = await hand.running(lease_ms=0)
    settled = await hand.settle()
    assert await hand.append(record, 1, drafts("1")) == Reply("fenced", settled.id)


async def test_an_append_behind_a_terminal_event_is_closed(hand: Hand):
    record = await hand.ended()
    assert await hand.append(record, 2, drafts("2")) == Reply("closed", EventId(record.generation, 1))
    assert await sequences(hand) == [0, 1]


async def test_a_ring_carries_what_was_appended_unless_it_is_large(hand: Hand, redis_url: str):
    record = await hand.running()
    bell = hand.keys.bell("tasks.a")
    async with listening(redis_url) as found:
        await found.bells.watch(bell, found.rung.append)
        await hand.append(record, 1, drafts("é"))
        await hand.append(record, 2, drafts("2", "33"))
        await hand.append(record, 4, drafts("x" * 70_000))
        await hand.finish(record, 5)
        await wait_until(lambda: len(found.rung) == 4, description="four rings are heard")
    rings = found.rung
    stamps = [str(event.at_ms) for event in (await hand.task_log())[1:]]
    generation = record.generation
    assert [ring.decode() for ring in rings] == [
        f"{generation}-1 - - 1\nt {stamps[0]} 0 2\né",
        f"{generation}-2 - - 2\nt {stamps[1]} 0 1\n2t {stamps[2]} 0 2\n33",
        f"{generation}-4 - - 1\n",
        f'{generation}-5 - - 1\ncomplete {stamps[4]} 1 12\n{{"result":1}}',
    ]


async def test_an_empty_append_asks_without_writing(hand: Hand):
    record = await hand.running()
    assert (await hand.append(record, 1)).outcome == "stored"
    assert await sequences(hand) == [0]
    await hand.lose_log()
    assert (await hand.append(record, 1)).outcome == "differs"


async def test_finishing_ends_log_and_record_in_one_step_and_shortens_their_lives(hand: Hand):
    record = await hand.running()
    assert (await hand.finish(record, 1)).outcome == "stored"
    fields = await hand.fields()
    assert (fields["status"], fields["end"], fields["lease_until"]) == ("completed", '{"result":1}', "0")
    assert fields["last_id"] == f"{record.generation}-1"
    assert int(fields["ended_at"]) > 0
    snapshot = await hand.read("tasks.a")
    assert (snapshot.is_closed, snapshot.events[-1].is_terminal) == (True, True)
    log_ms = await execute(hand.client, "PTTL", hand.keys.log("tasks.a"))
    record_ms = await execute(hand.client, "PTTL", hand.keys.record("a"))
    assert log_ms <= 86_400_000 < record_ms <= 2 * 86_400_000


async def test_trimming_keeps_about_the_newest_events_and_never_the_old_ones(hand: Hand):
    record = await hand.running()
    await hand.append(record, 1, drafts(*map(str, range(1, 1001))), max_events=200)
    found = await sequences(hand)
    assert found == list(range(found[0], 1001))
    assert 200 <= len(found) <= 400


async def test_a_refresh_prolongs_what_was_about_to_expire(hand: Hand):
    record = await hand.running()
    for key in (hand.keys.log("tasks.a"), hand.keys.record("a")):
        await execute(hand.client, "PEXPIRE", key, 5_000)
    await hand.append(record, 1, drafts("1"))
    assert await execute(hand.client, "PTTL", hand.keys.log("tasks.a")) <= 5_000
    await hand.append(record, 2, drafts("2"), refresh=True)
    for key in (hand.keys.log("tasks.a"), hand.keys.record("a")):
        assert await execute(hand.client, "PTTL", key) > 86_400_000


# Repair.


async def test_a_repair_writes_a_lost_log_back_under_the_same_ids(hand: Hand):
    record = await hand.running()
    await hand.append(record, 1, drafts("1", "2"))
    before = [(event.id, event.type, event.data) for event in await hand.task_log()]
    await hand.lose_log()
    opening = Draft("attempt", record.values["opening"])
    assert await hand.append(record, 0, [opening, *drafts("1", "2")], mode="repair") == Reply("stored")
    assert [(event.id, event.type, event.data) for event in await hand.task_log()] == before
    assert await execute(hand.client, "PTTL", hand.keys.log("tasks.a")) > 0


async def test_a_repair_writes_only_what_is_missing(hand: Hand):
    record = await hand.running()
    await hand.append(record, 1, drafts("1"))
    assert (await hand.append(record, 0, drafts("0", "1", "2", "3"), mode="repair")).outcome == "stored"
    assert [event.data for event in (await hand.task_log())[1:]] == ["1", "2", "3"]


async def test_a_repair_writes_a_lost_record_back_from_the_writers_copy_with_its_lease(hand: Hand):
    record = await hand.running()
    await hand.lose_record()
    values = {"status": "running", "type": "t", "generation": str(record.generation), "attempt": "1"}
    assert (await hand.append(record, 0, drafts("0"), mode="repair", values=values)).outcome == "stored"
    fields = await hand.fields()
    assert (fields["owner"], fields["type"], fields["last_id"]) == ("n1", "t", f"{record.generation}-0")
    assert (await hand.renew()).outcome == "renewed"
    assert (await hand.claim(nonce="n2")).outcome == "held"
    assert await execute(hand.client, "PTTL", hand.keys.record("a")) > 0


async def test_a_repair_after_the_end_is_fenced_although_the_log_has_expired(hand: Hand):
    old = await hand.running(lease_ms=0)
    new = await hand.claimed(nonce="n2")
    await hand.finish(new, 1, nonce="n2")
    await hand.lose_log()
    assert (await hand.append(old, 0, drafts("0"), mode="repair")).outcome == "fenced"
    assert await sequences(hand) == []
    assert (await hand.fields())["status"] == "completed"


async def test_a_repair_while_a_successor_runs_is_fenced_although_the_log_was_lost(hand: Hand):
    old = await hand.running(lease_ms=0)
    await hand.claimed(nonce="n2")
    await hand.lose_log()
    assert (await hand.append(old, 0, drafts("0"), mode="repair")).outcome == "fenced"
    assert await sequences(hand) == []


async def test_a_repair_takes_back_a_record_that_a_failover_set_back_to_an_older_owner(hand: Hand):
    await hand.running(lease_ms=0)
    before = await hand.fields()
    record = await hand.claimed(nonce="n2")
    await execute(hand.client, "HSET", hand.keys.record("a"), *[text for pair in before.items() for text in pair])
    await hand.lose_log()
    values = {"generation": str(record.generation)}
    reply = await hand.append(record, 0, drafts("0"), mode="repair", nonce="n2", values=values)
    assert reply.outcome == "stored"
    assert (await hand.fields())["owner"] == "n2"


async def test_a_repair_of_a_log_that_has_a_successors_entries_is_fenced_without_a_record(hand: Hand):
    old = await hand.running(lease_ms=0)
    new = await hand.claimed(nonce="n2")
    await hand.lose_record()
    reply = await hand.append(old, 0, drafts("0"), mode="repair")
    assert reply == Reply("fenced", EventId(new.generation, 0))
    assert await hand.fields() == {}


async def test_a_repair_of_a_log_with_sequences_i_never_wrote_is_fenced(hand: Hand):
    record = await hand.running()
    await hand.append(record, 1, drafts("1", "2", "3"))
    reply = await hand.append(record, 0, drafts("0"), mode="repair", highest=2)
    assert reply == Reply("fenced", EventId(record.generation, 3))


@pytest.mark.parametrize("size", [1, 64, 40_000])
async def test_data_is_stored_byte_for_byte(hand: Hand, size: int):
    record = await hand.running()
    data = ("é\n\u2028\0{}" * size)[:size]
    await hand.append(record, 1, drafts(data))
    assert (await hand.task_log())[1].data == data

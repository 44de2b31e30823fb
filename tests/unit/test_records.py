"""Records: what the hash says to readers, workers and the API."""

from __future__ import annotations

from server.streams.event import Event
from server.streams.ids import ORIGIN, EventId
from server.streams.records import Link, Status, StreamRecord, TaskRecord, decode_chain


def flat(**values: str) -> list[bytes]:
    return [part.encode() for item in values.items() for part in item]


def stream_record(status: str, *, end: str | None = None, lease_until: int = 0) -> StreamRecord:
    raw = [
        status.encode(),
        b'[["5",null]]',
        b"5-9",
        str(lease_until).encode(),
        end.encode() if end else None,
        None,
        b"2",
    ]
    return StreamRecord.decode(raw)


def test_a_chain_keeps_numbers_beyond_what_floats_hold():
    assert decode_chain('[["9007199254740993",null],["9007199254740995","9007199254740993-4"]]') == (
        Link(9007199254740993, None),
        Link(9007199254740995, EventId(9007199254740993, 4)),
    )


def test_a_record_that_was_just_created_has_no_events():
    found = StreamRecord.decode([b"pending", b"[]", None, b"0", None, None, b"0"])
    assert found == StreamRecord(Status.PENDING, (), ORIGIN, 0, None, None, 0)


def test_only_a_running_task_is_leased_and_only_until_its_lease_runs_out():
    assert [stream_record("running", lease_until=until).is_leased(100) for until in (99, 100, 101)] == [
        False,
        False,
        True,
    ]
    assert not stream_record("pending", lease_until=101).is_leased(100)


def test_the_terminal_event_is_made_from_the_record_with_its_id():
    found = {
        status: stream_record(status, end='{"x":1}').terminal_event() for status in ("completed", "failed", "cancelled")
    }
    assert found == {
        "completed": Event(EventId(5, 9), "complete", '{"x":1}', is_terminal=True),
        "failed": Event(EventId(5, 9), "error", '{"x":1}', is_terminal=True),
        "cancelled": Event(EventId(5, 9), "cancelled", '{"x":1}', is_terminal=True),
    }


def test_an_unfinished_or_deleted_task_has_no_terminal_event():
    assert [stream_record(status).terminal_event() for status in ("pending", "running", "deleted")] == [None] * 3


def test_which_statuses_are_ended():
    assert [status.value for status in Status if status.is_ended] == ["completed", "failed", "cancelled", "deleted"]


def test_a_task_is_shown_as_the_contract_says():
    values = {
        "status": "completed",
        "type": "sum",
        "title": "Add",
        "input": '{"n":1}',
        "attempt": "2",
        "progress": "12.5",
        "end": '{"result":{"sum":3}}',
        "last_id": "5-9",
        "created_at": "1795343970123",
        "updated_at": "1795343971000",
    }
    assert TaskRecord.decode("abc", flat(**values)).as_json() == {
        "id": "abc",
        "type": "sum",
        "title": "Add",
        "queue": "default",
        "unique_key": None,
        "input": {"n": 1},
        "status": "completed",
        "attempt": 2,
        "progress": 100,
        "result": {"sum": 3},
        "error": None,
        "not_before": None,
        "last_event_id": "5-9",
        "created_at": "2026-11-22T10:39:30.123Z",
        "updated_at": "2026-11-22T10:39:31.000Z",
        "events_url": "/tasks/abc/events",
    }


def test_progress_is_what_the_task_said_last_and_100_once_it_is_completed():
    said = {"status": "running", "progress": "12.5"}
    assert TaskRecord.decode("abc", flat(**said)).progress == 12.5
    assert TaskRecord.decode("abc", flat(**said | {"status": "failed"})).progress == 12.5
    assert TaskRecord.decode("abc", flat(status="completed")).progress == 100
    assert TaskRecord.decode("abc", flat(status="running")).progress is None


def test_a_failed_task_shows_its_error_and_no_result():
    shown = TaskRecord.decode("abc", flat(status="failed", type="t", end='{"error":"no","code":"x"}')).as_json()
    assert (shown["result"], shown["error"]) == (None, "no")


def test_a_record_with_little_in_it_still_decodes():
    found = TaskRecord.decode("abc", flat(status="pending"))
    assert (found.type, found.queue, found.attempt, found.generation, found.is_queued) == ("", "default", 0, 0, False)
    assert not found.is_cancel_requested

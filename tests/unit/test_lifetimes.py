"""How long things are kept, as it follows from the settings."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.streams.calls import Lifetimes

DAY_MS = 86_400_000
seconds = st.floats(1, 366 * 86_400)


def test_the_defaults_are_those_of_the_settings():
    assert (
        Lifetimes.lasting(retention_seconds=86_400, result_seconds=172_800, dead_letter_seconds=2_592_000)
        == Lifetimes()
    )


def test_results_may_outlive_their_events_by_far():
    found = Lifetimes.lasting(retention_seconds=3600, result_seconds=604_800, dead_letter_seconds=2_592_000)
    assert (found.retention_ms, found.record_ms, found.dead_ms) == (DAY_MS // 24, 7 * DAY_MS, 30 * DAY_MS)


@given(seconds, seconds, seconds)
def test_a_record_answers_for_its_log_and_a_dead_letter_is_a_record(retention: float, result: float, dead: float):
    found = Lifetimes.lasting(retention_seconds=retention, result_seconds=result, dead_letter_seconds=dead)
    assert found.retention_ms <= found.live_ms
    assert 2 * found.retention_ms <= found.record_ms <= found.dead_ms

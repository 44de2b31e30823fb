"""Moments as requests write them."""

import pytest

from server.web.moments import moment_ms

HALF_PAST_SIX = 1795717800000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-26T18:30:00Z", HALF_PAST_SIX),
        ("2026-11-26t18:30:00z", HALF_PAST_SIX),
        ("2026-11-26 18:30:00.25z", HALF_PAST_SIX + 250),
        ("2026-11-26T19:30:00+01:00", HALF_PAST_SIX),
        ("20261126T1830Z", HALF_PAST_SIX),
        ("2026-W48-4T18:30Z", HALF_PAST_SIX),
        ("2026-11-26T18:29:60Z", HALF_PAST_SIX),
        ("2026-11-26t18:29:60.5-00:00", HALF_PAST_SIX + 500),
        ("1969-12-31T23:59:60Z", 0),
        ("9999-12-31T23:59:60Z", 253402300800000),
        ("0001-01-01T00:00:00Z", 0),
    ],
)
def test_a_moment_with_an_offset_is_known_however_it_is_written(text: str, expected: int):
    assert moment_ms(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "x", "2026-11-26T18:30:00", "2026-11-26T18:30:61Z", "2026-11-26T18:60:00Z"],
)
def test_what_says_no_moment_is_none(text: str):
    assert moment_ms(text) is None

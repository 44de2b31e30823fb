"""What is said of an outage of Redis: each reason once, and how long it took."""

from __future__ import annotations

import pytest

from server.streams.errors import LogUnavailable
from server.streams.outage import Outage
from server.streams.refusing import refusal

SILENCE = LogUnavailable("Redis did not answer: Connection refused")
NO_REPLICAS = refusal("NOREPLICAS Not enough good replicas to write.")


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level("INFO", logger="server.streams.outage")
    return caplog


def test_an_outage_is_said_once_at_its_beginning_and_once_at_its_end_with_its_length(said: pytest.LogCaptureFixture):
    outage = Outage()
    outage.over(now=0)
    for second in range(10, 20):
        outage.met(NO_REPLICAS, now=second)
    for second in range(20, 30):
        outage.over(now=second)
    assert said.messages == [
        f"Redis takes no writes (NOREPLICAS): {NO_REPLICAS}",
        "Redis takes writes again; the outage took 10.0 s",
    ]


def test_another_reason_is_said_as_it_comes_and_none_twice(said: pytest.LogCaptureFixture):
    outage = Outage()
    for second, error in enumerate([SILENCE, SILENCE, NO_REPLICAS, SILENCE, NO_REPLICAS]):
        outage.met(error, now=second)
    assert said.messages == [
        f"Redis is out of reach: {SILENCE}",
        f"Redis takes no writes (NOREPLICAS), 2.0 s after the outage began: {NO_REPLICAS}",
    ]


def test_the_next_outage_is_one_of_its_own(said: pytest.LogCaptureFixture):
    outage = Outage()
    for second in (0, 2):
        outage.met(SILENCE, now=second)
        outage.over(now=second + 1)
    told = [f"Redis is out of reach: {SILENCE}", "Redis takes writes again; the outage took 1.0 s"]
    assert said.messages == told * 2

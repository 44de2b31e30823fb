"""What integration tests of the log share."""

from __future__ import annotations

import pytest

from server.streams.connections import AsyncClient
from server.streams.keys import Keys
from tests.support.log_hand import Hand


@pytest.fixture
def hand(client: AsyncClient, keys: Keys) -> Hand:
    return Hand(client, keys)

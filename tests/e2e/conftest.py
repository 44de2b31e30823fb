"""Fixtures of those tests of commands that share one server: each works on a stream of its own."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.product import Product, product


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def found(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Product]:
    """A server and its Redis, without workers."""
    async with product(tmp_path_factory.mktemp("product"), workers=0) as running:
        yield running


@pytest.fixture
def stream() -> str:
    """A name that no other test uses."""
    return f"s.{uuid.uuid4().hex}"

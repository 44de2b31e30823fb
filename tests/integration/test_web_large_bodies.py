"""A large body takes its time to be looked at, and readers are served meanwhile."""

from __future__ import annotations

from threading import get_ident
from types import ModuleType
from typing import Any

import pytest

from server.web import bodies, new_task
from server.web.open_streams import publish
from tests.support.web import Web


@pytest.mark.parametrize(("length", "is_apart"), [(10, False), (100_000, True)])
async def test_a_large_body_is_looked_at_in_a_thread_of_its_own(
    web: Web, monkeypatch: pytest.MonkeyPatch, length: int, is_apart: bool
) -> None:
    threads: dict[str, int] = {}

    def note(module: ModuleType, name: str) -> None:
        look = getattr(module, name)

        def noted(*given: Any, **options: Any) -> Any:
            threads[name] = get_ident()
            return look(*given, **options)

        monkeypatch.setattr(module, name, noted)

    note(bodies, "parse_json")
    note(new_task, "check_input")
    note(publish, "drafts_in")
    text = "x" * length
    assert (await web.client.post("/tasks", json={"type": "free", "input": {"text": text}})).status_code == 202
    assert (await web.client.post("/streams/chat/events", json={"data": text})).status_code == 201
    found = {name: thread != get_ident() for name, thread in threads.items()}
    assert found == {"parse_json": is_apart, "check_input": is_apart, "drafts_in": is_apart}

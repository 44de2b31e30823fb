"""What tests of open streams over HTTP say again and again."""

from __future__ import annotations

from typing import Any

import httpx

from tests.support.web import Web

JSON = {"content-type": "application/json"}
NDJSON = {"content-type": "application/x-ndjson"}


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The problem document, which must be a whole one."""
    assert response.status_code == status, (response.status_code, response.text)
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert (document["type"], document["status"]) == ("about:blank", status)
    assert document["title"]
    assert document["detail"]
    return document


async def publish(web: Web, body: Any, *, stream: str = "chat", key: str | None = None) -> list[str]:
    """The ids of what was published."""
    headers = {"idempotency-key": key} if key else {}
    response = await web.client.post(f"/streams/{stream}/events", json=body, headers=headers)
    assert response.status_code == 201, response.text
    return response.json()["ids"]


async def pages(web: Web, path: str) -> list[dict[str, Any]]:
    """A page and those that its `Link` leads to."""
    found: list[dict[str, Any]] = []
    while path:
        response = await web.client.get(path)
        assert response.status_code == 200, response.text
        found.append(response.json())
        path = response.links.get("next", {}).get("url", "")
    return found


async def events(web: Web, stream: str = "chat") -> list[dict[str, Any]]:
    """Everything in a stream, oldest first."""
    return [event for page in await pages(web, f"/streams/{stream}/history") for event in page["events"]]

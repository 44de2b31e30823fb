"""The OpenAPI document over HTTP, and the page that shows it."""

from __future__ import annotations

import re

import pytest

from server.web.openapi.document import document
from tests.support.web import Web


async def test_the_document_is_served_as_json_that_is_asked_for_anew(web: Web) -> None:
    response = await web.client.get("/openapi.json")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.headers["cache-control"] == "no-cache"
    assert response.json() == document()


async def test_an_unchanged_document_is_not_sent_again(web: Web) -> None:
    first = await web.client.get("/openapi.json")
    again = await web.client.get("/openapi.json", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_the_page_of_the_document_loads_from_this_server_only(web: Web) -> None:
    response = await web.client.get("/docs")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert not re.search(r"<script(?![^>]*\bsrc=)|\bstyle=|\bon[a-z]+=\"|https?://", response.text)
    named = re.findall(r'"(/console/[^"]+)"', response.text)
    assert "/console/docs.js" in named
    for path in named:
        assert (await web.client.get(path)).status_code == 200


@pytest.mark.parametrize("path", ["/", "/docs", "/console/main.js", "/console/none.js", "/openapi.json"])
async def test_a_refused_method_is_told_of_those_that_are_taken(web: Web, path: str) -> None:
    response = await web.client.post(path, json={})
    assert response.status_code == 405
    assert response.headers["content-type"] == "application/problem+json"
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}

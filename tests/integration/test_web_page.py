"""The page and the health of a server, as browsers and balancers ask for them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import server.web.page
from tests.support.web import Web

FOLDER = Path(server.web.page.__file__).parent / "console"


async def test_the_page_is_html_that_may_load_from_this_server_only(web: Web) -> None:
    response = await web.client.get("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-content-type-options"] == "nosniff"
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.text == (FOLDER / "index.html").read_text()


async def test_everything_the_page_names_is_there_with_its_type(web: Web) -> None:
    named = re.findall(r'"(/console/[^"]+)"', (await web.client.get("/")).text)
    assert named
    types = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
    for path in [*named, *(f"/console/{each.name}" for each in FOLDER.iterdir() if each.suffix in types)]:
        response = await web.client.get(path)
        assert (response.status_code, response.headers["content-type"]) == (200, types[Path(path).suffix])
        assert response.headers["x-content-type-options"] == "nosniff"


async def test_nothing_in_the_page_needs_what_its_policy_forbids() -> None:
    page = (FOLDER / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|\bstyle=|\bon[a-z]+=\"", page)
    for script in FOLDER.glob("*.js"):
        assert not re.search(r"\beval\(|new Function|setAttribute\(\"style\"|https?://", script.read_text()), script


async def test_an_unchanged_file_is_not_sent_again(web: Web) -> None:
    first = await web.client.get("/console/main.js")
    again = await web.client.get("/console/main.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_head_of_the_page_has_no_body(web: Web) -> None:
    response = await web.client.head("/")
    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/console/none.js",
        "/console/../page.py",
        "/console/%2e%2e/page.py",
        "/console/..%2fpage.py",
        "/console//etc/passwd",
        "/console/%00",
    ],
)
async def test_no_other_file_can_be_had(web: Web, path: str) -> None:
    response = await web.client.get(path)
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")


async def test_the_page_takes_no_other_method(web: Web) -> None:
    assert (await web.client.post("/", json={})).status_code == 405
    assert (await web.client.post("/console/main.js", json={})).status_code == 405


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
async def test_health_is_never_cached_and_answers_head(web: Web, path: str) -> None:
    response = await web.client.get(path)
    assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")
    assert (await web.client.head(path)).status_code == 200

"""Requests that Schemathesis makes from the OpenAPI document are answered as it says, by real processes.

Every failure is a fault of the server or of the document. `REPRISE_OPENAPI_EXAMPLES=200` makes a long run of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import pytest

from tests.e2e.product import ROOT, product
from tests.support.http import http_client
from tests.support.openapi import closed

_SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"
_CONFIGURATION = ROOT / "tests" / "e2e" / "schemathesis.toml"
#: A stream that has nothing to tell, and a task that might be written back yet, need not be waited for.
_SETTINGS = {"REPRISE_MAX_STREAM_SECONDS": "1", "REPRISE_HEARTBEAT_SECONDS": "0.5", "REPRISE_LEASE_SECONDS": "2"}
_CASES = re.compile(r"(\d+) generated")


@pytest.mark.slow
# Half a minute's work of two programs; beside all other tests of a busy machine it has taken four.
@pytest.mark.timeout(0 if "REPRISE_OPENAPI_EXAMPLES" in os.environ else 600)
async def test_every_request_made_from_the_document_is_answered_as_it_says(tmp_path: Path) -> None:
    async with product(tmp_path, settings=_SETTINGS) as running:
        async with http_client(running.url) as http:
            told = (await http.get("/openapi.json")).json()
        document = tmp_path / "openapi.json"
        document.write_text(json.dumps(closed(told)))
        examples = os.environ.get("REPRISE_OPENAPI_EXAMPLES")
        process = await asyncio.create_subprocess_exec(
            *(str(_SCHEMATHESIS), "--config-file", str(_CONFIGURATION), "run", str(document), "--url", running.url),
            *(("--max-examples", examples) if examples else ()),
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "*"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = (await process.communicate())[0].decode()
        assert process.returncode == 0, output
        found = _CASES.search(output)
        assert found, output
        print(f"\nSchemathesis made {found[1]} requests.")  # noqa: T201 - the figure of the long run is what it is run for

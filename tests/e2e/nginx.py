"""nginx on loopback, run from the configuration that is deployed; only addresses and files are this machine's.

Knows nothing of what the replicas serve.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from shutil import which

from tests.support.ports import unused_port
from tests.support.waiting import wait_until

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "nginx" / "nginx.conf"
NGINX = which("nginx", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")

_REPLICA = re.compile(r"^( *server )10\.0\.0\.\d:8000( .*)$", re.MULTILINE)
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def configuration_for(replicas: Sequence[str], *, port: int, folder: Path) -> str:
    """The deployed configuration with these replicas, `host:port` each, on this port of loopback."""
    lines = iter(replicas)
    text, count = _REPLICA.subn(lambda found: f"{found[1]}{next(lines, '')}{found[2]}", CONFIGURATION.read_text())
    assert count == len(replicas), f"{CONFIGURATION} has {count} replicas; give as many."
    text, ports = re.subn(r"listen 8000;", f"listen 127.0.0.1:{port};", text)
    assert ports == 1
    files = [f"pid {folder}/nginx.pid;", "daemon off;", f"error_log {folder}/nginx.log info;"]
    paths = [f"    {name}_temp_path {folder}/{name};" for name in _TEMPORARY]
    paths.append(f"    access_log {folder}/nginx-access.log;")
    return "\n".join([*files, text.replace("http {", "\n".join(["http {", *paths]), 1)])


@asynccontextmanager
async def run_nginx(replicas: Sequence[str], folder: Path) -> AsyncGenerator[int]:
    """Run nginx in front of the replicas; yield its port once it answers."""
    assert NGINX, "nginx is not installed on this machine."
    port = unused_port()
    path = folder / "nginx.conf"
    path.write_text(configuration_for(replicas, port=port, folder=folder))
    process = await asyncio.create_subprocess_exec(
        *(NGINX, "-p", str(folder), "-e", str(folder / "nginx.log"), "-c", str(path)), stderr=asyncio.subprocess.PIPE
    )

    async def answers() -> bool:
        assert process.returncode is None, f"nginx ended: {(folder / 'nginx.log').read_text()}"
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return True
        return False

    try:
        await wait_until(answers, description="nginx answers")
        yield port
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)  # at once; SIGQUIT would wait for every stream
        await process.communicate()

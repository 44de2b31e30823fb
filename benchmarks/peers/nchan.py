"""Nchan inside nginx, with its history in Redis: Debian's packages, one nginx worker process.

Tuned as its documentation advises for many subscribers: connections and files enough, no access log, messages kept
long enough to replay every one, `tcp_nodelay`. Publishing is a POST over a kept connection, handled by the same nginx
process, whose CPU therefore includes it; Reprise's writers are processes of their own and are accounted for apart.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Final

from benchmarks.load.spec import Emission, PublishSpec
from benchmarks.peers.peer import PublisherPublication, Site, running_publisher
from benchmarks.peers.processes import Program, free_port, listens, running, start
from benchmarks.peers.redis import Redis, running_redis

_HOST: Final = "127.0.0.1"
_MODULES: Final = (Path("/usr/lib/nginx/modules"), Path("/usr/share/nginx/modules"), Path("/usr/lib64/nginx/modules"))

#: The whole configuration.
CONFIGURATION: Final = """\
load_module {module};
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log warn;
events {{ worker_connections 20000; }}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_requests 100000000;
    keepalive_timeout 1h;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    nchan_shared_memory_size 512M;
    upstream log {{ nchan_redis_server redis://127.0.0.1:{redis_port}; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location ~ ^/publish/(.+)$ {{
            nchan_publisher;
            nchan_channel_id $1;
            nchan_redis_pass log;
            nchan_message_buffer_length 20000;
            nchan_message_timeout 1h;
        }}
        location ~ ^/subscribe/(.+)$ {{
            nchan_subscriber eventsource;
            nchan_channel_id $1;
            nchan_redis_pass log;
            nchan_message_buffer_length 20000;
            nchan_message_timeout 1h;
            nchan_eventsource_ping_interval 15s;
        }}
    }}
}}
"""


class Nchan:
    """A running nginx."""

    host = _HOST
    line_end = b"\n"

    def __init__(self, site: Site, redis: Redis, stack: contextlib.ExitStack) -> None:
        self._site = site
        self._redis = redis
        self._stack = stack
        self.port = free_port()
        self._publishers: list[int] = []
        text = CONFIGURATION.format(module=find_module(), folder=site.folder, port=self.port, redis_port=redis.port)
        (site.folder / "nginx.conf").write_text(text)
        self._server = self._start()
        self._server.wait_until(lambda: listens(self.port), what="listen")

    def prepare(self, emission: Emission) -> PublisherPublication:
        names = [f"stream-{index}" for index in range(emission.streams)]
        spec = PublishSpec(
            host=_HOST,
            port=self.port,
            wire="http",
            targets=tuple(f"/publish/{each}" for each in names),
            emission=emission,
        )
        publisher = self._stack.enter_context(running_publisher(spec))
        self._publishers.append(publisher.pid)
        return PublisherPublication(publisher, tuple(f"/subscribe/{each}" for each in names))

    def accounts(self) -> dict[str, list[int]]:
        return {"server": [self._server.pid], "redis": [self._redis.program.pid], "writers": self._publishers}

    def _start(self) -> Program:
        program = start(
            "nginx",
            [find_nginx() or "nginx", "-c", str(self._site.folder / "nginx.conf"), "-p", str(self._site.folder)],
            folder=self._site.folder,
            cpus=self._site.server_cpus,
            # Its master ends its worker; killed, it would leave it behind.
            stop_signal=signal.SIGTERM,
        )
        self._stack.enter_context(running(program))
        return program


def find_nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def find_module() -> Path | None:
    """Where Debian puts the Nchan module."""
    return next((path for folder in _MODULES if (path := folder / "ngx_nchan_module.so").exists()), None)


@contextlib.contextmanager
def running_nchan(site: Site) -> Generator[Nchan]:
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(running_redis(site.folder, cpus=site.other_cpus))
        yield Nchan(site, redis, stack)

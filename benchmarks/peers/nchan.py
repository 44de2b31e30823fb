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

from benchmarks.peers.peer import Site
from benchmarks.peers.processes import Program, start
from benchmarks.peers.published import PublishedTo
from benchmarks.peers.redis import running_redis

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


class Nchan(PublishedTo):
    """A running nginx."""

    line_end = b"\n"
    wire = "http"
    written_as = "/publish/{}"
    read_as = "/subscribe/{}"

    @property
    def write_port(self) -> int:
        return self.port

    def start(self) -> Program:
        folder = self.site.folder
        text = CONFIGURATION.format(module=find_module(), folder=folder, port=self.port, redis_port=self.redis.port)
        (folder / "nginx.conf").write_text(text)
        return start(
            "nginx",
            [find_nginx() or "nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)],
            folder=folder,
            cpus=self.site.server_cpus,
            # Its master ends its worker; killed, it would leave it behind.
            stop_signal=signal.SIGTERM,
        )


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

"""The machine and the versions that a result belongs to, and the programs it cannot do without."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import subprocess
from collections.abc import Collection, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benchmarks.peers.nchan import find_module, find_nginx
from benchmarks.peers.peer import Design
from benchmarks.peers.processes import Unusable
from benchmarks.peers.redis import find_redis

_ROOT: Final = Path(__file__).parents[1]
#: Scenario (f) has ten thousand connections, and each process a few files beside them.
_FEWEST_FILES: Final = 10_500
_INSTALL_SECONDS: Final = 300
_PACKAGES: Final = ("starlette", "uvicorn", "uvloop", "httptools", "sse-starlette", "redis", "hiredis")


def allow_many_files() -> int:
    """Raise this process's limit of open files, which children inherit, to what is allowed. Raises `Unusable`."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < _FEWEST_FILES:
        raise Unusable(
            f"This shell allows {hard} open files, and 10,000 idle subscribers need {_FEWEST_FILES}. "
            f"Raise the limit (ulimit -Hn {_FEWEST_FILES} as root, or limits.conf), or leave (f) out with --only."
        )
    return hard


def ensure_programs(designs: Collection[Design]) -> None:
    """Find what the designs need; install Debian's packages where that is possible. Raises `Unusable`."""
    if missing := _missing(designs):
        apt_get = shutil.which("apt-get")
        if os.geteuid() != 0 or not apt_get:
            raise Unusable(
                f"Missing: {', '.join(missing)}. Install with `apt-get install {' '.join(missing)}` as root, "
                "or run without that peer: --peers reprise (redis-server is needed in any case)."
            )
        _install(apt_get, missing)
        if missing := _missing(designs):
            raise Unusable(f"apt-get installed no usable {', '.join(missing)}. Run without that peer: --peers reprise.")


def _missing(designs: Collection[Design]) -> list[str]:
    missing = [] if find_redis() else ["redis-server"]
    if Design.NCHAN in designs:
        missing += [] if find_nginx() else ["nginx-light"]
        missing += [] if find_module() else ["libnginx-mod-nchan"]
    return missing


def _install(apt_get: str, packages: list[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        done = subprocess.run(
            [apt_get, "-qq", *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_INSTALL_SECONDS,
            check=False,
        )
        if done.returncode:
            raise Unusable(f"apt-get {command[0]} failed: {done.stderr.strip()[-400:]}")


def facts() -> dict[str, str]:
    """The machine, as somebody would describe it who wants to compare."""
    model = _first(r"^model name\s*: (.*)$", Path("/proc/cpuinfo")) or platform.machine()
    kilobytes = int(_first(r"^MemTotal:\s*(\d+) kB", Path("/proc/meminfo")) or 0)
    system = _first(r'^PRETTY_NAME="?([^"\n]*)', Path("/etc/os-release")) or platform.system()
    return {
        "processor": f"{os.cpu_count()} × {model}",
        "memory": f"{kilobytes / 1e6:.0f} GB",
        "system": f"{system}, Linux {platform.release()}",
    }


def versions(designs: Collection[Design]) -> Mapping[str, str]:
    """What was measured, by name."""
    found = {"Reprise": _revision(), "Python": platform.python_version()}
    found |= {name: version(name) for name in _PACKAGES}
    found["redis-server"] = _said([find_redis() or "redis-server", "--version"], r"v=(\S+)")
    if Design.NCHAN in designs:
        found["nginx"] = _said([find_nginx() or "nginx", "-v"], r"nginx/(\S+)")
        found["Nchan"] = _said(["dpkg-query", "-W", "libnginx-mod-nchan"], r"\t(\S+)")
    return found


def _revision() -> str:
    revision = _said(["git", "-C", str(_ROOT), "rev-parse", "--short", "HEAD"], r"(\w+)")
    return f"{version('reprise')} ({revision})"


def _said(command: list[str], pattern: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1] if found else "unknown"


def _first(pattern: str, path: Path) -> str | None:
    found = re.search(pattern, path.read_text(), re.MULTILINE) if path.exists() else None
    return found[1] if found else None

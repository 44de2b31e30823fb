"""What is measured of a running stack: memory, open files and asyncio tasks of each program, and what Redis holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import resident_bytes
from benchmarks.soak.stack import Stack
from benchmarks.soak.verdict import Tolerance, Verdict, judge

_MIB: Final = 1 << 20
#: By how much each may rise over the time that is judged. Allocators keep what they got in steps of some MiB; readers
#: come and go, so what they occupy is never the same twice.
TOLERANCES: Final[Mapping[str, tuple[str, Tolerance]]] = {
    "server memory": ("MiB", Tolerance(0.05, 3.0)),
    "worker memory": ("MiB", Tolerance(0.05, 3.0)),
    "redis memory": ("MiB", Tolerance(0.05, 3.0)),
    "redis used memory": ("MiB", Tolerance(0.05, 3.0)),
    "server files": ("", Tolerance(0.10, 10)),
    "worker files": ("", Tolerance(0.05, 3)),
    "redis clients": ("", Tolerance(0.05, 3)),
    # A pool keeps what one busy moment needed, up to 32 connections: so these are counted apart from files and clients.
    "server pooled connections": ("", Tolerance(0.0, 32)),
    "worker pooled connections": ("", Tolerance(0.0, 32)),
    "server asyncio tasks": ("", Tolerance(0.10, 10)),
    "worker asyncio tasks": ("", Tolerance(0.10, 10)),
    "keys": ("", Tolerance(0.05, 30)),
    "keys that never expire": ("", Tolerance(0.0, 2)),
}


@dataclass(slots=True)
class Series:
    """Samples by name, all taken at the same times."""

    times: list[float] = field(default_factory=list[float])
    values: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    def add(self, at: float, sample: Mapping[str, float]) -> None:
        self.times.append(at)
        for name, value in sample.items():
            self.values.setdefault(name, []).append(value)

    def judged(self, *, since: float) -> Iterator[Verdict]:
        """Each series from `since` on."""
        first = next((place for place, at in enumerate(self.times) if at >= since), len(self.times))
        for name, (unit, tolerance) in TOLERANCES.items():
            yield judge(name, unit, self.times[first:], self.values[name][first:], tolerance)


def take(stack: Stack) -> dict[str, float]:
    """One sample of everything."""
    memory: Any = stack.redis_info("memory")
    keyspace: Any = stack.redis_info("keyspace").get("db0", {"keys": 0, "expires": 0})
    sample = {
        "redis memory": resident_bytes([stack.redis_pid]) / _MIB,
        "redis used memory": memory["used_memory"] / _MIB,
        "redis clients": float(stack.redis_info("clients")["connected_clients"]),
        "keys": float(keyspace["keys"]),
        "keys that never expire": float(keyspace["keys"] - keyspace["expires"]),
    }
    for name, pid in stack.product.items():
        sample[f"{name} memory"] = resident_bytes([pid]) / _MIB
        counted = stack.counted(name)
        pooled = counted["pooled_connections"]
        sample[f"{name} files"] = float(len(list(Path(f"/proc/{pid}/fd").iterdir())) - pooled)
        sample[f"{name} asyncio tasks"] = float(counted["asyncio_tasks"])
        sample[f"{name} pooled connections"] = float(pooled)
        sample["redis clients"] -= pooled
    return sample

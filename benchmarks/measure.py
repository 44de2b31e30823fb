"""What processes cost, from the kernel's accounts: CPU time and resident memory.

Invariant: CPU is that of the whole process, threads that have ended included, and of its children that still live.
Nothing is sampled or estimated. Memory that the kernel holds for sockets belongs to no process and is not in here.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_RESIDENT: Final = re.compile(r"^Rss:\s+(\d+) kB", re.MULTILINE)


def with_children(pid: int) -> list[int]:
    """The process and everything below it."""
    found = [pid]
    for parent in found:
        for each in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in each.read_text().split()]
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of processes, their children included, to the nanosecond."""
    # The clock of another process's CPU time, as clock_getcpuclockid(3) makes its number.
    return sum(time.clock_gettime((~each << 3) | 2) for pid in pids for each in with_children(pid))


def machine_busy_seconds() -> float:
    """CPU time that this machine has spent on anything, over all processors; steps of 10 ms."""
    fields = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _iowait, interrupts, soft_interrupts, *_ = fields
    return (user + nice + system + interrupts + soft_interrupts) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pids: Iterable[int]) -> int:
    """Resident memory of processes, their children included."""
    total = 0
    for pid in pids:
        for each in with_children(pid):
            found = _RESIDENT.search(Path(f"/proc/{each}/smaps_rollup").read_text())
            total += int(found[1]) * 1024 if found else 0
    return total


def percentile(values: list[int], share: float) -> float:
    """The value that `share` of all (0 to 1) do not exceed; 0 of nothing."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return float(ordered[min(len(ordered) - 1, int(share * len(ordered)))])

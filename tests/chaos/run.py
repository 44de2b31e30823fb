"""One run from plan to report: installation, load and faults together, calm, judgement.

Invariant: the judgement sees only what readers were told, what records and logs say in the end, and what befell.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, time

from tests.chaos.checker import Judge, Offence
from tests.chaos.chronicle import Chronicle
from tests.chaos.follower import Violation
from tests.chaos.installation import LEASE_SECONDS, Installation, installed
from tests.chaos.load import Load
from tests.chaos.plan import Plan
from tests.chaos.report import Report
from tests.chaos.striker import Striker

#: After the last fault: the longest task, some leases, and the longest `retry:` that readers were told.
_CALM_SECONDS = 75.0
_PROGRESS_SECONDS = 1.0


@dataclass(frozen=True)
class Progress:
    """What is told while it runs."""

    seconds: float
    of: float
    faults: int
    tasks: int
    ended: int
    events: int
    reconnects: int
    gaps: int
    violations: int

    def __str__(self) -> str:
        return (
            f"{self.seconds:5.0f} of {self.of:.0f} s  {self.faults} faults  {self.ended} of {self.tasks} tasks ended  "
            f"{self.events} events  {self.reconnects} reconnects  {self.gaps} gaps  {self.violations} violations"
        )


async def run_chaos(
    plan: Plan,
    *,
    replay: str,
    has_balancer: bool = False,
    is_blind: bool = False,
    keep: Path | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Report:
    """Carry a plan out. `keep` is where logs and data are left; otherwise nothing is."""
    with tempfile.TemporaryDirectory(prefix="reprise-chaos-") as temporary:
        async with installed(
            plan.size, keep or Path(temporary), has_balancer=has_balancer, is_blind=is_blind
        ) as installation:
            return await _run(plan, installation, replay, on_progress)


async def _run(plan: Plan, installation: Installation, replay: str, on_progress: Callable[[Progress], None]) -> Report:
    begun = monotonic()

    def clock() -> float:
        return monotonic() - begun

    chronicle = Chronicle(epoch=time() - clock())
    load = Load(plan, installation, clock=clock)
    striker = Striker(installation, chronicle, clock=clock, running=load.running)
    telling = asyncio.create_task(_tell(plan, load, chronicle, clock, on_progress), name="progress")
    watching = asyncio.create_task(installation.topology.watch(chronicle, clock), name="failovers")
    try:
        loading = asyncio.create_task(load.run(), name="load")
        await asyncio.gather(striker.run(plan.strikes), _wait(plan.size.seconds - clock()))
        for link in installation.links.values():
            link.calm()
        await asyncio.wait([loading], timeout=_CALM_SECONDS)
        loading.cancel()
        await _left(loading)
        try:
            await installation.topology.settled()
        except AssertionError as failure:
            striker.violations.append(Violation("redis", str(failure), clock()))
    finally:
        telling.cancel()
        watching.cancel()
    await _left(watching)
    outcomes = await load.outcomes()
    judgement = Judge(chronicle, max_events=plan.size.max_events, lease_seconds=LEASE_SECONDS).judge(outcomes)
    ours = [*load.violations, *striker.violations]
    ours += [Violation("traceback", each, clock()) for each in installation.tracebacks()]
    ours += [
        Violation("process", f"{each.name} has ended by itself:\n{each.text[-3000:]}", clock())
        for each in installation.processes.values()
        if not each.is_running
    ]
    # Told first: what befell a process explains much of what its readers saw.
    judgement.offences[:0] = [Offence(violation, "the installation") for violation in ours]
    waits = [wait for _, reader in load.readers for wait in reader.waits]
    return Report(
        plan.seed,
        plan.size.topology,
        replay,
        clock(),
        chronicle.by_kind,
        len(chronicle.failovers),
        installation.events_written_back,
        outcomes,
        judgement,
        waits,
    )


async def _left(task: asyncio.Task[None]) -> None:
    """Wait until it is over, and have its error."""
    with suppress(asyncio.CancelledError):
        await task


async def _wait(seconds: float) -> None:
    await asyncio.sleep(max(0.0, seconds))


async def _tell(
    plan: Plan, load: Load, chronicle: Chronicle, clock: Callable[[], float], on_progress: Callable[[Progress], None]
) -> None:
    while True:
        await asyncio.sleep(_PROGRESS_SECONDS)
        followers = [follower for follower, _ in load.readers]
        on_progress(
            Progress(
                clock(),
                plan.size.seconds,
                faults=len(chronicle.incidents),
                tasks=len(load.started),
                ended=sum(started.has_ended for started in load.started),
                events=sum(follower.events for follower in followers),
                reconnects=sum(max(0, reader.connections - 1) for _, reader in load.readers),
                gaps=sum(len(follower.gaps) for follower in followers),
                violations=sum(len(follower.violations) for follower in followers),
            )
        )

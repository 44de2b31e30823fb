"""(i): one subscriber that never reads, among a thousand: the others must not notice, and the server must not grow.

Both halves are measured in one run on the same connections: first without the stalled one, then with it. It asks for
the whole stream, whose history of 16 MB is more than the kernel takes in for it, so that it does stall.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Final

from benchmarks.load import child
from benchmarks.load.spec import Emission, Stall
from benchmarks.measure import percentile, resident_bytes
from benchmarks.peers.peer import Design, Peer
from benchmarks.scenarios.delivery import SUBSCRIBERS_MODULE, attach, load_spec, publish_and_drain
from benchmarks.scenarios.scenario import Figures, Scenario, Shown, Target, figure_of, ratio
from benchmarks.stage import Stage

SUBSCRIBERS: Final = 1000
HISTORY: Final = 4000
_HALF: Final = 300
_WARM_UP: Final = 50
#: Between the halves, while the stalled one attaches and its buffers fill.
_BETWEEN: Final = 100
LIVE: Final = Emission(
    streams=1, events=_WARM_UP + _HALF + _BETWEEN + _HALF, rate=100, preload=HISTORY, preload_bytes=4096
)
_MEGABYTE: Final = 1_000_000


def _run(stage: Stage, design: Design) -> Figures:
    with stage.peer(design) as peer:
        stage.step("preparing")
        publication = peer.prepare(LIVE)
        everything = load_spec(peer, publication, LIVE, subscribers=SUBSCRIBERS)
        spec = dataclasses.replace(
            everything,
            # The others are there for what comes, not for the history.
            paths=tuple(f"{path}?from=latest" for path in everything.paths),
            events=LIVE.events,
            first=HISTORY,
        )
        resident: list[int] = []
        with child.running(SUBSCRIBERS_MODULE, spec) as load:
            attach(stage, load)
            found = publish_and_drain(
                stage,
                publication,
                load,
                accounts=peer.accounts(),
                during=lambda: _stall(peer, load, resident),
                patience=spec.patience_seconds,
            )
    second = _WARM_UP + _HALF + _BETWEEN
    without = _p99_ms(found.drained.sampled, HISTORY + _WARM_UP, HISTORY + _WARM_UP + _HALF)
    beside = _p99_ms(found.drained.sampled, HISTORY + second, HISTORY + second + _HALF)
    before, between, after = resident
    return {
        "p99_without_ms": without,
        "p99_with_ms": beside,
        "grown_without_mb": (between - before) / _MEGABYTE,
        "grown_with_mb": (after - between) / _MEGABYTE,
        "load_share": found.cpu["load"] / found.seconds,
        "others_share": found.cpu["others"] / found.seconds,
    }


def _stall(peer: Peer, load: child.Child, resident: list[int]) -> None:
    server = peer.accounts()["server"]
    time.sleep(_WARM_UP / LIVE.rate)
    resident.append(resident_bytes(server))
    time.sleep(_HALF / LIVE.rate)
    load.tell(Stall())
    # What the answer to the stalled one allocates is in the first figure; what it makes pile up is in the second.
    time.sleep(_BETWEEN / LIVE.rate)
    resident.append(resident_bytes(server))
    # Still while events come: that a thousand connections end is another matter.
    time.sleep(0.9 * _HALF / LIVE.rate)
    resident.append(resident_bytes(server))


def _p99_ms(sampled: list[tuple[int, int]], first: int, end: int) -> float:
    return percentile([latency for number, latency in sampled if first <= number < end], 0.99) / 1e6


STALLED: Final = Scenario(
    key="i",
    title="1 stalled subscriber among 1000, 100 events/s",
    run=_run,
    designs=(Design.REPRISE,),
    shown=(
        Shown("p99_without_ms", "latency p99 without it", "ms"),
        Shown("p99_with_ms", "latency p99 with it", "ms"),
        Shown("grown_without_mb", "server memory grown in 3 s before it, and by its arrival", "MB"),
        Shown("grown_with_mb", "server memory grown in 3 s with it", "MB"),
    ),
    targets=(
        Target(
            "the others' p99 with it ÷ without it",
            ratio(figure_of("i", "p99_with_ms"), figure_of("i", "p99_without_ms")),
            1.1,
            is_at_least=False,
        ),
        Target("server memory grown with it, MB", figure_of("i", "grown_with_mb"), 2.0, is_at_least=False, digits=1),
    ),
)

"""(g): five thousand subscribers lose their server in mid-stream and come back to a fresh process.

The server is killed with SIGKILL while events go on, and a fresh one is started at once on the same port, with nothing
of the old one's. Every subscriber comes back as an EventSource does, with its last event id, `RETRY_MS` after it lost
its connection or was refused: short and alike for all, so that the designs are compared and not their `retry:`.

A subscriber has caught up when it holds the newest event that was due at that moment; the time is that of the last of
them, counted from the kill. Every event must arrive once, across the seam too.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Final

from benchmarks.load import child
from benchmarks.load.spec import Emission, Killed
from benchmarks.measure import percentile
from benchmarks.peers.peer import Design, Replaceable
from benchmarks.scenarios.delivery import SUBSCRIBERS_MODULE, attach, load_spec, publish_and_drain
from benchmarks.scenarios.scenario import Figures, Scenario, Shown, Target, times
from benchmarks.stage import Stage

SUBSCRIBERS: Final = 5000
LIVE: Final = Emission(streams=1, events=80, rate=20)
RETRY_MS: Final = 250
_KILL_AFTER_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 120.0


def _run(stage: Stage, design: Design) -> Figures:
    with stage.replaceable(design) as peer:
        stage.step("preparing")
        publication = peer.prepare(LIVE)
        spec = dataclasses.replace(
            load_spec(peer, publication, LIVE, subscribers=SUBSCRIBERS),
            reconnect_ms=RETRY_MS,
            interval_ns=int(1e9 / LIVE.rate),
            patience_seconds=_PATIENCE_SECONDS,
        )
        with child.running(SUBSCRIBERS_MODULE, spec) as load:
            attach(stage, load)
            found = publish_and_drain(
                stage,
                publication,
                load,
                accounts={},
                during=lambda: _kill(peer, load),
                patience=_PATIENCE_SECONDS,
            )
    times_ns = found.drained.caught_up_ns
    return {
        "caught_up_seconds": max(times_ns) / 1e9,
        "half_caught_up_seconds": percentile(times_ns, 0.5) / 1e9,
        "reconnections": float(found.drained.reconnections),
        "lost": 0.0,
        "repeated": 0.0,
        "load_share": found.cpu["load"] / found.seconds,
        "seconds": found.seconds,
    }


def _kill(peer: Replaceable, load: child.Child) -> None:
    time.sleep(_KILL_AFTER_SECONDS)
    load.tell(Killed(peer.kill_server()))
    peer.restart_server()


LOST_SERVER: Final = Scenario(
    key="g",
    title="5000 subscribers, 20 events/s, server killed and replaced",
    run=_run,
    designs=(Design.REPRISE,),
    run_once=(Design.TUTORIAL,),
    shown=(
        Shown("caught_up_seconds", "until all caught up", "s"),
        Shown("lost", "events lost", "", 0),
        Shown("repeated", "events repeated", "", 0),
    ),
    targets=(
        Target(
            "time until all caught up ÷ the tutorial's",
            times("g", "caught_up_seconds", Design.TUTORIAL),
            0.5,
            is_at_least=False,
        ),
    ),
)

"""(e): five hundred subscribers come at once and each replays a whole stream.

Connections are open before the clock starts; it runs from the first request to the last event of the last subscriber.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Final

from benchmarks.load import child
from benchmarks.load.spec import Ask, Asked, Drained, Emission
from benchmarks.peers.peer import Design
from benchmarks.scenarios.delivery import SUBSCRIBERS_MODULE, Delivery, Meter, attach, load_spec
from benchmarks.scenarios.scenario import Figures, Scenario, Shown, Target, times
from benchmarks.stage import Stage

SUBSCRIBERS: Final = 500
HISTORY: Final = Emission(streams=1, events=2000, rate=0)
#: A design that replays 40,000 a second needs half a minute for all of it.
HISTORY_FOR_THE_SLOW: Final = Emission(streams=1, events=400, rate=0)
_WRITE_SECONDS: Final = 60.0
_PATIENCE_SECONDS: Final = 90.0


def _run(stage: Stage, design: Design) -> Figures:
    history = HISTORY_FOR_THE_SLOW if design is Design.TUTORIAL else HISTORY
    with stage.peer(design) as peer:
        stage.step("writing the history")
        publication = peer.prepare(history)
        publication.go(time.monotonic_ns())
        publication.wait(_WRITE_SECONDS)
        spec = dataclasses.replace(
            load_spec(peer, publication, history, subscribers=SUBSCRIBERS),
            asks_later=True,
            samples=0,
            patience_seconds=_PATIENCE_SECONDS,
        )
        with child.running(SUBSCRIBERS_MODULE, spec) as load:
            attach(stage, load)
            meter = Meter(peer.accounts(), load)
            load.tell(Ask())
            asked = load.hear(Asked, within_seconds=5)
            drained = load.hear(
                Drained, within_seconds=_PATIENCE_SECONDS, on_progress=lambda share: stage.step("replaying", share)
            )
            found = Delivery((drained.at_ns - asked.at_ns) / 1e9, drained, meter.spent())
    return found.figures()


REPLAY: Final = Scenario(
    key="e",
    title="500 subscribers replay 2000 events each, all at once",
    run=_run,
    designs=(Design.REPRISE, Design.NCHAN),
    run_once=(Design.TUTORIAL,),
    shown=(
        Shown("delivered_per_second", "replayed", "events/s", 0),
        Shown("server_us", "server CPU per replayed event", "µs", 2),
    ),
    targets=(Target("replayed events/s ÷ Nchan's", times("e", "delivered_per_second"), 4.0, is_at_least=True),),
)

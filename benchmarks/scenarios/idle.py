"""(f): ten thousand subscribers of a stream on which nothing happens: resident memory of the server for each.

What the kernel holds for a socket is not in it; that is the same for everybody.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Final

from benchmarks.load import child
from benchmarks.load.spec import Emission
from benchmarks.measure import cpu_seconds, resident_bytes
from benchmarks.peers.peer import Design
from benchmarks.scenarios.delivery import SUBSCRIBERS_MODULE, attach, load_spec
from benchmarks.scenarios.scenario import Figures, Scenario, Shown, Target, figure_of, times
from benchmarks.stage import Stage

SUBSCRIBERS: Final = 10_000
#: Come and go before the first look, so that what is loaded once is not counted.
WARM_UP: Final = 50
SILENCE: Final = Emission(streams=1, events=0, rate=0)
#: Long enough for whatever comes with the passing of time to be seen.
_SIT_SECONDS: Final = 2.0


def _run(stage: Stage, design: Design) -> Figures:
    with stage.peer(design) as peer:
        stage.step("preparing")
        publication = peer.prepare(SILENCE)
        server = peer.accounts()["server"]
        spec = dataclasses.replace(load_spec(peer, publication, SILENCE, subscribers=WARM_UP), samples=0)
        with child.running(SUBSCRIBERS_MODULE, spec) as load:
            attach(stage, load)
        time.sleep(0.5)
        before = resident_bytes(server)
        began, spent = time.monotonic(), cpu_seconds(server)
        with child.running(SUBSCRIBERS_MODULE, dataclasses.replace(spec, subscribers=SUBSCRIBERS)) as load:
            attach(stage, load)
            attaching = time.monotonic() - began
            connect_us = (cpu_seconds(server) - spent) / SUBSCRIBERS * 1e6
            stage.step("sitting")
            time.sleep(_SIT_SECONDS)
            after = resident_bytes(server)
    return {
        "bytes_per_connection": (after - before) / SUBSCRIBERS,
        "kb_per_connection": (after - before) / SUBSCRIBERS / 1000,
        "connect_us": connect_us,
        "attach_seconds": attaching,
    }


IDLE: Final = Scenario(
    key="f",
    title="10,000 idle subscribers",
    run=_run,
    designs=(Design.REPRISE, Design.NCHAN),
    shown=(
        Shown("kb_per_connection", "resident memory per connection", "KB"),
        Shown("connect_us", "server CPU per connection made", "µs", 0),
    ),
    targets=(
        Target("KB per connection", figure_of("f", "kb_per_connection"), 10.0, is_at_least=False, digits=1),
        Target("KB per connection ÷ Nchan's", times("f", "kb_per_connection"), 1.0, is_at_least=False),
    ),
)

"""All scenarios, in the order in which a round runs them."""

from __future__ import annotations

from typing import Final

from benchmarks.scenarios.fan_out import FLOOD, STEADY_FAN_OUT
from benchmarks.scenarios.idle import IDLE
from benchmarks.scenarios.lost_server import LOST_SERVER
from benchmarks.scenarios.many_streams import EIGHT_THOUSAND_STREAMS, THOUSAND_STREAMS
from benchmarks.scenarios.replay import REPLAY
from benchmarks.scenarios.scenario import Scenario
from benchmarks.scenarios.stalled import STALLED
from benchmarks.scenarios.writing import WRITING

SCENARIOS: Final[tuple[Scenario, ...]] = (
    FLOOD,
    STEADY_FAN_OUT,
    THOUSAND_STREAMS,
    EIGHT_THOUSAND_STREAMS,
    REPLAY,
    IDLE,
    LOST_SERVER,
    WRITING,
    STALLED,
)

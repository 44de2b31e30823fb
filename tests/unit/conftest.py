"""Hypothesis in these tests: no deadline of its own and no limit on how slow it may be, for a busy machine is no
counter-example.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("unit", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unit")

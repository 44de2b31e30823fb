"""Chance for pauses that must not coincide.

Not Python's shared generator: this package runs inside other people's programs, which may have seeded it and count on
its numbers, and after a fork two processes would draw the same pauses.
"""

from __future__ import annotations

from random import SystemRandom
from typing import Final

jitter: Final = SystemRandom()

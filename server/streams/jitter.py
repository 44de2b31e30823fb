"""Chance for pauses that must not coincide.

Not Python's shared generator: this package runs inside other people's programs, which may have seeded it and count on
its numbers.
"""

from __future__ import annotations

import os
from random import Random
from typing import Final

jitter: Final = Random()
# Or a child would draw the pauses of its parent.
os.register_at_fork(after_in_child=jitter.seed)

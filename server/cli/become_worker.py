"""`reprise worker`: workers are a program of their own that this package must not import. It takes the process over."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn


def become_worker(arguments: Sequence[str]) -> NoReturn:
    """Go on as the program of workers, with these arguments."""
    os.execv(sys.executable, [sys.executable, "-m", "workers", *arguments])  # noqa: S606

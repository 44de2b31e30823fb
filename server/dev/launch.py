"""Become another program that is told to stop (SIGTERM) when its parent dies, however the parent dies.

Run as a script: `python launch.py PARENT_PID PROGRAM ARGUMENTS…`. The wish survives exec, so that this serves
programs that know nothing of us. Linux only; elsewhere it just becomes the program. Imports nothing of ours:
it must be fast.
"""

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    parent, program, arguments = int(sys.argv[1]), sys.argv[2], sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the wish was made
            sys.exit(1)
    os.execvp(program, arguments)  # noqa: S606 (the arguments are our supervisor's)


if __name__ == "__main__":
    main()

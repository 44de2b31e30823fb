"""The command line: the console script `reprise`, and `python -m server`, which is `reprise server`."""

from __future__ import annotations

import sys

from server.cli.become_worker import become_worker
from server.streams.early_stop import leave_if_told


def main(arguments: list[str] | None = None) -> None:
    """Run a command and leave with its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["worker"]:
        become_worker(given[1:])  # without what other commands import: half of the time that its start takes
    if given[:1] == ["server"]:
        leave_if_told()
    from server.cli.application import run  # what it imports takes a moment, in which a stop may be asked for

    sys.exit(run(given))


if __name__ == "__main__":
    main(["server", *sys.argv[1:]])

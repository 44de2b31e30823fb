"""The command line: the console script `reprise`, and `python -m server`, which is `reprise server`."""

from __future__ import annotations

import sys

from server.cli.application import run


def main(arguments: list[str] | None = None) -> None:
    """Run a command and leave with its exit code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


if __name__ == "__main__":
    main(["server", *sys.argv[1:]])

"""The command line: `python -m tests.chaos --seed 7 --minutes 10`. Draws a seed if none is given; prints it first."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
from collections.abc import Sequence
from math import inf
from pathlib import Path

from tests.chaos.plan import KINDS, TOPOLOGIES, Size, kinds_of, make_plan
from tests.chaos.run import Progress, run_chaos

#: Understood here and by nothing of the product: replicas run without their check of continuity.
BLIND = "REPRISE_CHAOS_BLIND"
_TOO_MANY = 100_000
_EPILOG = f"""\
The seed decides every fault, its time and its target, every task and every reader; the plan is printed first. The same
seed with the same options repeats the plan. What the faults meet is up to the clocks of the processes: run a seed that
failed a few times.

exit code: 0 if every promise was kept, 1 if not, 2 for an option that cannot be used.

{BLIND}=1 runs replicas that check no continuity, by tests/chaos/blind_server.py: such a run has to fail.

examples:
  make chaos CHAOS_ARGS="--minutes 10"
  make chaos CHAOS_ARGS="--topology sentinel --minutes 4"
  make chaos CHAOS_ARGS="--seed 7 --minutes 1 --faults kill-worker,lose-redis --keep /tmp/seen"
"""


def main(arguments: Sequence[str]) -> int:
    """Run once; the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    topology: str = options.topology
    kinds: tuple[str, ...] = kinds_of(topology) if options.faults is None else options.faults
    if elsewhere := set(kinds) - set(kinds_of(topology)):
        there = ", ".join(kinds_of(topology))
        parser.error(f"{min(elsewhere)!r} strikes nobody with --topology {topology}. There are: {there}.")
    seed = random.randrange(1_000_000) if options.seed is None else options.seed
    size = Size(
        options.minutes * 60,
        servers=options.servers,
        workers=options.workers,
        tasks=options.tasks,
        readers_per_task=options.readers,
        interval=options.interval,
        max_events=options.max_events,
        topology=topology,
    )
    plan = make_plan(seed, size, kinds)
    replay = _replay(seed, options)
    print(f"seed {seed}; the same plan again: {replay}", flush=True)
    print(f"{len(plan.strikes)} faults, {len(plan.tasks)} tasks with {size.readers_per_task} readers each")
    print(*plan.strikes, sep="\n", flush=True)
    if options.plan:
        return 0
    is_blind = os.environ.get(BLIND, "") not in {"", "0"}
    report = asyncio.run(
        run_chaos(
            plan,
            replay=replay,
            has_balancer=options.haproxy,
            is_blind=is_blind,
            keep=options.keep,
            on_progress=_Teller(),
        )
    )
    print(report, flush=True)
    return 0 if report.is_clean else 1


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, KINDS))
    faults = "\n".join(f"  {name:{width}}  {kind.says}{_only(name)}" for name, kind in KINDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Break everything that Reprise stands on while tasks run and readers follow, and judge what the "
        f"readers saw.\n\nfaults:\n{faults}",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    usual = Size(0)
    add = parser.add_argument
    add("--seed", type=_seed, help="repeat the plan of this seed; a random one if left out")
    add("--topology", choices=tuple(TOPOLOGIES), default="single", help="what Redis is (single)")
    add("--minutes", type=_positive, default=2.0, help="how long faults strike; some time to calm down follows (2)")
    add("--faults", type=_kinds, metavar="KIND,KIND", help="only these; `none` for none (all)")
    add("--servers", type=_count, default=usual.servers, help=f"replicas ({usual.servers})")
    add("--workers", type=_count, default=usual.workers, help=f"workers ({usual.workers})")
    add("--tasks", type=_count, default=usual.tasks, help=f"about how many tasks run at once ({usual.tasks})")
    add("--readers", type=_count, default=usual.readers_per_task, help=f"of each task ({usual.readers_per_task})")
    add("--interval", type=_positive, default=usual.interval, help=f"seconds between faults ({usual.interval:g})")
    add("--max-events", type=_count, default=usual.max_events, help=f"newest events a log keeps ({usual.max_events})")
    add("--haproxy", action="store_true", help="HAProxy as deployed between readers and replicas")
    add("--plan", action="store_true", help="print the plan and end")
    add("--keep", type=_folder, metavar="FOLDER", help="leave the logs of all processes here")
    return parser


def _replay(seed: int, options: argparse.Namespace) -> str:
    usual = _parser().parse_args([])
    words = [f"--seed {seed}", f"--minutes {options.minutes:g}"]
    if options.topology != usual.topology:
        words.append(f"--topology {options.topology}")
    if options.faults is not None:
        words.append(f"--faults {','.join(options.faults) or 'none'}")
    words += [
        f"--{name.replace('_', '-')} {getattr(options, name):g}"
        for name in ("servers", "workers", "tasks", "readers", "interval", "max_events")
        if getattr(options, name) != getattr(usual, name)
    ]
    if options.haproxy:
        words.append("--haproxy")
    return f'make chaos CHAOS_ARGS="{" ".join(words)}"'


def _kinds(text: str) -> tuple[str, ...]:
    names = tuple(name for name in text.split(",") if name and name != "none")
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no kind of fault. There are: {', '.join(KINDS)}.")
    return names


def _seed(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no seed: name a whole number, as a report does.")
    return int(text)


def _only(kind: str) -> str:
    where = [topology for topology in TOPOLOGIES if kind in kinds_of(topology)]
    return "" if len(where) == len(TOPOLOGIES) else f" ({' and '.join(where)})"


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0.")
    return value


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < _TOO_MANY:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {_TOO_MANY - 1}.")
    return int(text)


def _folder(text: str) -> Path:
    folder = Path(text)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be a folder: {error.strerror}.") from None
    if any(folder.iterdir()):
        raise argparse.ArgumentTypeError(f"{text!r} is not empty. Name a folder that is, or a new one.")
    return folder.resolve()


class _Teller:
    """One line that is written over on a terminal, one every ten seconds elsewhere."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._told_at = 0.0

    def __call__(self, progress: Progress) -> None:
        if self._is_terminal:
            print(f"\r{progress}\033[K", end="", file=sys.stderr, flush=True)
        elif progress.seconds - self._told_at >= 10:
            self._told_at = progress.seconds
            print(progress, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

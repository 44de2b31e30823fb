"""`make bench`, or `python -m benchmarks`: measure Reprise and its rivals on this machine, now.

Nothing here asserts a time. A lost, doubled or reordered event, or a program that fails, is an exit code above 0.
"""

from __future__ import annotations

import shlex
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from benchmarks.machine import allow_many_files, ensure_programs, facts, versions
from benchmarks.peers.peer import Design
from benchmarks.peers.processes import Unusable
from benchmarks.peers.redis import REDIS_OPTIONS
from benchmarks.report.document import Circumstances, parts, write_data, write_page
from benchmarks.report.plot import draw
from benchmarks.runner import Plan, run_plan
from benchmarks.scenarios.catalogue import SCENARIOS
from benchmarks.scenarios.scenario import Scenario
from benchmarks.stage import Placement

_MICRO: Final = "micro"
_DURABILITY: Final = "durability"
#: Measured with the product's inner parts, and by themselves.
_ALONE: Final = (_MICRO, _DURABILITY)
_KEYS: Final = [each.key for each in SCENARIOS]
_DESIGNS: Final = [each.value for each in Design]

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(
    epilog="Scenarios: " + "; ".join(f"{each.key}: {each.title}" for each in SCENARIOS) + f"; {_MICRO}: inner parts; "
    f"{_DURABILITY}: what REPRISE_DURABILITY costs."
)
def main(
    only: Annotated[
        str,
        typer.Option(help=f"Scenarios to run, with commas between them, or {_MICRO}, or {_DURABILITY}.", metavar="A,B"),
    ] = ",".join(_KEYS),
    rounds: Annotated[int, typer.Option(min=1, help="How often each scenario is run.")] = 3,
    peers: Annotated[
        str, typer.Option(help="Whom to run: fewer than all where one cannot be installed.", metavar="A,B")
    ] = ",".join(_DESIGNS),
    output: Annotated[
        Path | None,
        typer.Option(help="Folder whose benchmarks.md gets the tables, with JSON and plot beside it.", file_okay=False),
    ] = None,
) -> None:
    """Measure Reprise, Nchan with Redis, and one XREAD per client, each in turn, and print the tables.

    Starts everything it needs on loopback ports and ends it again; as root on Debian it installs what is missing
    (nginx with Nchan, redis-server).
    """
    console = Console(stderr=True)
    # Also where a shell started us in the background, which ignores SIGINT. Programs must be ended on the way out.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        if only in _ALONE:
            from benchmarks import micro  # noqa: PLC0415 (the product's inner parts, only when asked for)

            measure = micro.measure_parts if only == _MICRO else micro.measure_durability
            sys.stdout.write(measure(console=console))
            return
        plan = _plan(only, peers, rounds)
        allow_many_files()
        with console.status("Looking for programs, installing what is missing"):
            ensure_programs(plan.designs)
        is_sound = _run(plan, output, console)
    except Unusable as refused:
        console.print(f"benchmarks: {refused}", markup=False, highlight=False)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        console.print("benchmarks: stopped; nothing is left running.")
        raise typer.Exit(130) from None
    if not is_sound:
        raise typer.Exit(1)


def _run(plan: Plan, output: Path | None, console: Console) -> bool:
    """Run and report; returns whether every run was sound."""
    began = time.monotonic()
    results, failures = run_plan(plan, console=console)
    circumstances = Circumstances(
        command=shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        minutes=(time.monotonic() - began) / 60,
        rounds=plan.rounds,
        placement=str(Placement.of_this_machine()),
        machine=facts(),
        versions=versions(plan.designs),
        redis_options=REDIS_OPTIONS,
    )
    generated = parts(results, circumstances)
    sys.stdout.write("\n" + "\n\n".join(generated.values()) + "\n")
    for failure in failures:
        console.print(f"benchmarks: {failure}", style="red", markup=False, highlight=False)
    if failures:
        return False
    if output:
        write_page(output, generated)
        write_data(output, results, circumstances)
        draw(output, results)
    return True


def _plan(only: str, peers: str, rounds: int) -> Plan:
    plan = Plan(_scenarios(only), _designs(peers), rounds)
    if not any(plan.runs()):
        raise Unusable(f"Of {peers!r} none is in {only!r}: {_who_is_in(plan.scenarios)}.")
    return plan


def _scenarios(only: str) -> list[Scenario]:
    wanted = [each.strip() for each in only.split(",")]
    if unknown := [each for each in wanted if each not in _KEYS]:
        if unknown[0] in _ALONE:
            raise Unusable(f"{unknown[0]!r} goes alone: --only {unknown[0]}, and the scenarios in another run.")
        raise Unusable(
            f"There is no scenario {unknown[0]!r}. Choose from {', '.join(_KEYS)}, or {' or '.join(_ALONE)} alone."
        )
    return [each for each in SCENARIOS if each.key in wanted]


def _who_is_in(scenarios: Sequence[Scenario]) -> str:
    return "; ".join(
        f"({each.key}) has {', '.join(design.value for design in (*each.designs, *each.run_once))}"
        for each in scenarios
    )


def _designs(peers: str) -> list[Design]:
    wanted = [each.strip() for each in peers.split(",")]
    if unknown := [each for each in wanted if each not in _DESIGNS]:
        raise Unusable(f"There is no peer {unknown[0]!r}. Choose from {', '.join(_DESIGNS)}.")
    return [each for each in Design if each.value in wanted]


if __name__ == "__main__":
    app()

"""The command line of the soak. Exit code 0: nothing grew, leaked or was lost; 1: something did; 2: it could not
run.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from benchmarks.machine import allow_many_files, facts
from benchmarks.peers.processes import Unusable
from benchmarks.soak import picture
from benchmarks.soak.load import Load
from benchmarks.soak.samples import Series, take
from benchmarks.soak.stack import RESULT_SECONDS, Stack, running_stack
from benchmarks.soak.verdict import Verdict

_SAMPLE_SECONDS: Final = 2.0
#: Of the whole time; at least as long as it takes until tasks are forgotten again and allocators have seen the worst.
_WARM_UP_SHARE: Final = 0.2
_LEAST_WARM_UP_SECONDS: Final = RESULT_SECONDS + 60.0
#: After the load: as long as the last task is kept, and some more until Redis has removed what expired.
_COOL_DOWN_SECONDS: Final = RESULT_SECONDS + 15.0
_READY_SECONDS: Final = 30.0
#: Indexes, types, workers, queues and their groups: what docs/keys.md calls permanent.
_MOST_KEYS_LEFT: Final = 12
_MOST_FILES_MORE: Final = 8
_MOST_TASKS_MORE: Final = 4

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def main(
    *,
    minutes: Annotated[float, typer.Option(min=2, help="How long the load lasts.")] = 30,
    rate: Annotated[float, typer.Option(min=10, help="Events a second, over all streams.")] = 2000,
    streams: Annotated[int, typer.Option(min=1, help="Tasks that emit side by side.")] = 20,
    readers: Annotated[int, typer.Option(min=1, help="Readers that come and go, besides one for each task.")] = 60,
    seed: Annotated[int, typer.Option(help="Of what is left to chance.")] = 1,
    output: Annotated[Path, typer.Option(help="Folder for soak.json and soak.svg.", file_okay=False)] = Path(),
) -> None:
    """Load a server, a worker and Redis, and fail if memory, files, asyncio tasks or keys do not stay flat."""
    console = Console(stderr=True)
    allow_many_files()
    try:
        with tempfile.TemporaryDirectory(prefix="reprise-soak-") as folder, running_stack(Path(folder)) as stack:
            load = Load(stack.port, rate=rate, streams=streams, readers=readers, seed=seed)
            run = _Run(stack, load, console)
            asyncio.run(run.run(minutes * 60))
            failures = [*run.failures(), *(f"{name} said:\n{text[-2000:]}" for name, text in stack.said().items())]
    except Unusable as refused:
        console.print(f"soak: {refused}", markup=False, highlight=False)
        raise typer.Exit(2) from None
    output.mkdir(parents=True, exist_ok=True)
    circumstances = {"minutes": minutes, "rate": rate, "streams": streams, "readers": readers, "seed": seed}
    run.write(output, {**circumstances, **facts(), "failures": failures})
    for verdict in run.verdicts:
        console.print(str(verdict), style="" if verdict.is_flat else "red", markup=False, highlight=False)
    console.print(", ".join(f"{count:,} {name}" for name, count in load.counts.items()), highlight=False)
    for failure in failures:
        console.print(f"soak: {failure}", style="red", markup=False, highlight=False)
    if failures:
        raise typer.Exit(1)


class _Run:
    """One soak."""

    def __init__(self, stack: Stack, load: Load, console: Console) -> None:
        self._stack = stack
        self._load = load
        self._console = console
        self._series = Series()
        self._judged_since = 0.0
        self._before: dict[str, float] = {}
        self._after: dict[str, float] = {}
        self._keys_left: list[str] = []
        self.verdicts: list[Verdict] = []

    async def run(self, seconds: float) -> None:
        await self._until_ready()
        self._before = take(self._stack)
        loading = asyncio.create_task(self._load.run(), name="load")
        began = time.monotonic()
        self._judged_since = max(_WARM_UP_SHARE * seconds, _LEAST_WARM_UP_SECONDS)
        with self._console.status("") as status:
            while (at := time.monotonic() - began) < seconds:
                self._stack.check()
                self._series.add(at, take(self._stack))
                status.update(f"soaking, {at:.0f} of {seconds:.0f} s: {self._load.counts['events']:,} events")
                await asyncio.sleep(_SAMPLE_SECONDS)
            status.update("the last tasks end, and are forgotten")
            self._load.stop()
            await loading
            await asyncio.sleep(_COOL_DOWN_SECONDS)
        self._after = take(self._stack)
        self._keys_left = [key.decode() for key in self._stack.redis_keys()]
        self.verdicts = list(self._series.judged(since=self._judged_since))

    async def _until_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not all(self._stack.counted(name)["asyncio_tasks"] for name in self._stack.product):
            self._stack.check()
            if time.monotonic() > deadline:
                raise Unusable(f"Server and worker did not start within {_READY_SECONDS:g} s.")
            await asyncio.sleep(0.1)
        await asyncio.sleep(3)  # until the worker has said what it offers, and all connections stand

    def failures(self) -> list[str]:
        """A sentence for each thing that went wrong."""
        found = [str(verdict) for verdict in self.verdicts if not verdict.is_flat]
        found += self._load.wrongs
        if len(self._keys_left) > _MOST_KEYS_LEFT:
            found.append(f"{len(self._keys_left)} keys are left in Redis: {sorted(self._keys_left)[:20]}.")
        for name in self._stack_names():
            for what, most in (("files", _MOST_FILES_MORE), ("asyncio tasks", _MOST_TASKS_MORE)):
                before, after = self._before[f"{name} {what}"], self._after[f"{name} {what}"]
                if after > before + most:
                    found.append(f"The {name} has {after:.0f} {what} after the load, and had {before:.0f} before.")
        return found

    def _stack_names(self) -> list[str]:
        return list(self._stack.product)

    def write(self, folder: Path, circumstances: dict[str, Any]) -> None:
        """Write soak.json and soak.svg."""
        document = {
            **circumstances,
            "judged_since_seconds": self._judged_since,
            "counts": dict(self._load.counts),
            "verdicts": [{**asdict(each), "is_flat": each.is_flat} for each in self.verdicts],
            "before": self._before,
            "after": self._after,
            "keys_left": sorted(self._keys_left),
            "seconds": [round(at, 1) for at in self._series.times],
            "series": {name: [round(each, 2) for each in values] for name, values in self._series.values.items()},
        }
        (folder / "soak.json").write_text(json.dumps(document, indent=1) + "\n")
        (folder / "soak.svg").write_text(picture.draw(self._series, self.verdicts, judged_since=self._judged_since))


if __name__ == "__main__":
    app()

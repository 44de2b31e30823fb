"""Task functions that say where they want to run."""

from __future__ import annotations

from workers import Context, task


@task("on_gpu", queue="gpu")
async def on_gpu(ctx: Context) -> None:
    """Belongs into a queue of its own."""

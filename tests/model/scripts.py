"""The product's scripts with Redis' clock replaced by the model's, and, for ablations, with a rule taken out.

Substitution is textual and outside the product: each text to replace must occur in the script exactly as often as
expected, or the test fails, so a changed script cannot make an ablation silently void.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import import_module
from importlib.resources import files
from pkgutil import iter_modules
from typing import NamedTuple
from unittest.mock import patch

from server.streams import calls
from server.streams.calls import Script, joined

SECONDS_KEY, MICROSECONDS_KEY = "model:s", "model:us"
_REAL_CLOCK = "redis.call('TIME')"
_MODEL_CLOCK = f"redis.call('MGET', '{SECONDS_KEY}', '{MICROSECONDS_KEY}')"


class Cut(NamedTuple):
    """A text of a script, and what stands there instead. `file` is a script's name, `_ring` or `_prelude`."""

    file: str
    old: str
    new: str


@contextmanager
def model_scripts(cuts: Sequence[Cut] = ()) -> Generator[None]:
    """Have the product run its scripts on the model's clock."""

    @cache
    def script(name: str) -> Script:
        return joined(name, lambda file: _source(file, cuts))

    for cut in cuts:
        _source(cut.file, cuts)
    with ExitStack() as stack:
        stack.enter_context(patch.object(calls, "script", script))
        for found in iter_modules(calls.__path__):
            module = import_module(f"{calls.__name__}.{found.name}")
            if hasattr(module, "script"):
                stack.enter_context(patch.object(module, "script", script))
        yield


def _source(file: str, cuts: Sequence[Cut]) -> str:
    text = (files("server.streams") / "scripts" / f"{file}.lua").read_text()
    if file == "_ring":
        assert text.count(_REAL_CLOCK) == 1, "The clock is read in one place."
        text = text.replace(_REAL_CLOCK, _MODEL_CLOCK)
    for cut in cuts:
        if cut.file == file:
            assert text.count(cut.old) == 1, f"{file}.lua no longer has {cut.old!r}: adapt the ablation."
            text = text.replace(cut.old, cut.new)
    return text

"""The product's scripts with Redis' clock replaced by the model's, and, for ablations, with a rule taken out.

Substitution is textual and outside the product: each text to replace must occur in the script exactly as often as
expected, or the test fails, so a changed script cannot make an ablation silently void.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import NamedTuple
from unittest.mock import patch

from server.streams.calls import Script

SECONDS_KEY, MICROSECONDS_KEY = "model:s", "model:us"
_REAL_CLOCK = "redis.call('TIME')"
_MODEL_CLOCK = f"redis.call('MGET', '{SECONDS_KEY}', '{MICROSECONDS_KEY}')"


class Cut(NamedTuple):
    """A text of a script, and what stands there instead. `file` is a script's name or `_prelude`."""

    file: str
    old: str
    new: str


@contextmanager
def model_scripts(cuts: Sequence[Cut] = ()) -> Generator[None]:
    """Have the product run its scripts on the model's clock."""

    @cache
    def script(name: str) -> Script:
        text = _source("_prelude", cuts) + _source(name, cuts)
        return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    for cut in cuts:
        _source(cut.file, cuts)
    with patch("server.streams.calls.script", script):
        yield


def _source(file: str, cuts: Sequence[Cut]) -> str:
    text = (files("server.streams") / "scripts" / f"{file}.lua").read_text()
    if file == "_prelude":
        assert text.count(_REAL_CLOCK) == 1, "The prelude reads the clock in one place."
        text = text.replace(_REAL_CLOCK, _MODEL_CLOCK)
    for cut in cuts:
        if cut.file == file:
            assert text.count(cut.old) == 1, f"{file}.lua no longer has {cut.old!r}: adapt the ablation."
            text = text.replace(cut.old, cut.new)
    return text

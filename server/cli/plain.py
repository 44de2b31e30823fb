"""Text of others as a terminal may be given it: what would control it is shown, and not obeyed. Pure."""

from __future__ import annotations

import re
from typing import Final

#: All but line ends and tabs; and what turns the direction of the text around it, so that a line says another thing
#: than it is.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
#: What JSON leaves as it is.
_LATE_CONTROL: Final = re.compile(r"[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """The text with a backslash, an x and its number for each of them, or a u where the number is longer."""
    return _CONTROL.sub(_shown, text)


def plain_json(text: str) -> str:
    """JSON that says the same, and holds nothing that controls a terminal."""
    return _LATE_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _shown(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

"""The table of keys in docs/keys.md, as tests hold Redis against it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from redis import Redis

_DOCUMENT = Path(__file__).parents[2] / "docs" / "keys.md"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    key: str
    type: str
    owner: str
    lifetime: str

    @property
    def is_permanent(self) -> bool:
        return "**permanent**" in self.lifetime

    def matches(self, name: str) -> bool:
        """Whether a real key is of this kind: each `<word>` stands for any text."""
        parts = re.split(r"<[a-z]+>", self.key)
        return re.fullmatch(".+".join(map(re.escape, parts)), name) is not None


@cache
def rows() -> tuple[Row, ...]:
    """Keys and channels."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in _table("key")]
    return tuple(Row(key.strip("`"), kind, owner, lifetime) for key, kind, owner, _, lifetime in cells)


def documented_fields(title: str) -> set[str]:
    """Names in the first column of the table under a heading."""
    section = _DOCUMENT.read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]
    first_cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {name for cell in first_cells for name in re.findall(r"`([a-z_]+)`", cell)}


def faults(url: str) -> dict[str, str]:
    """Keys in Redis that break the table, each with the reason."""
    with Redis.from_url(url, decode_responses=True) as client:  # pyright: ignore[reportUnknownMemberType]
        names: list[str] = list(client.scan_iter(count=1000))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        found = {name: _fault(name, str(client.type(name)), client.ttl(name)) for name in names}
    return {name: reason for name, reason in found.items() if reason}


def _fault(name: str, kind: str, seconds: object) -> str:
    row = next((row for row in rows() if row.type != "channel" and row.matches(name)), None)
    expires = seconds != -1
    if row is None:
        return "" if expires else "it is not in docs/keys.md and never expires"
    if kind.replace("zset", "sorted set") != row.type:
        return f"it is a {kind}, and a {row.type} by docs/keys.md"
    if row.is_permanent == expires:
        return "it expires, but docs/keys.md says permanent" if expires else "it never expires"
    return ""


def _table(first_column: str) -> list[str]:
    lines = _DOCUMENT.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first_column} |"))
    end = next(number for number in range(start, len(lines)) if not lines[number].startswith("|"))
    return lines[start + 2 : end]

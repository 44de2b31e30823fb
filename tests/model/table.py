"""Prints the table of docs/protocol-proof.md: each rule, what was taken out, the schedule that fails, what was seen.

`python -m tests.model.table` plays the stored schedules against a real server, so the table says what happens now.
"""

from __future__ import annotations

import re

from tests.model.ablations import ABLATIONS, Ablation
from tests.model.schedule import play
from tests.model.world import Server
from tests.support.redis_server import RedisServer


def rows(server: Server) -> list[str]:
    """Lines of the table, without its head."""
    return [_row(server, ablation) for ablation in ABLATIONS]


def _row(server: Server, ablation: Ablation) -> str:
    schedule = ablation.schedule()
    with ablation.replace():
        found = play(server, ablation.family, schedule, cuts=ablation.cuts, clients_only=ablation.clients_only)
    steps = "; ".join(schedule)
    return f"| {ablation.rule} | {ablation.removed} | `{steps}` | {_without_clock(found.violation or 'nothing')} |"


def _without_clock(text: str) -> str:
    """Generations as letters in order of their appearance: the numbers are a clock's."""
    letters: dict[str, str] = {}
    return re.sub(r"\b(\d{6,})(?=-|\b)", lambda match: letters.setdefault(match[1], chr(97 + len(letters))), text)


if __name__ == "__main__":
    with RedisServer() as process:
        found_server = Server.connect(process.url)
        print(*rows(found_server), sep="\n")  # noqa: T201
        found_server.close()

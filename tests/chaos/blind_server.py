"""A replica that checks no continuity: `python -m tests.chaos.blind_server server …`. It shows that the checker sees.

It hands on whatever comes next in ring or log, and tells no gap: what a server does that trusts its queue. The product
has no switch for this; the two places that decide are replaced before it starts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from server.__main__ import main
from server.fanout import tail
from server.fanout.continuity import Verdict


def _without_gap(judge: Callable[..., Verdict]) -> Callable[..., Verdict]:
    def blind(*arguments: Any) -> Verdict:
        return replace(judge(*arguments), gap=None)

    return blind


tail.judge_log = _without_gap(tail.judge_log)
tail.judge_standing = _without_gap(tail.judge_standing)
tail.Tail._continues_live = lambda self, top, event: event.id > top

if __name__ == "__main__":
    main(sys.argv[1:])

"""The benchmark's peers as it runs them: started, published to, checked, and gone afterwards."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.load.spec import Emission
from benchmarks.measure import with_children
from benchmarks.peers.peer import Design
from benchmarks.scenarios.delivery import deliver
from benchmarks.stage import Stage

SMALL = Emission(streams=3, events=20, rate=100)


def no_step(_text: str, _share: float) -> None:
    pass


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("design", [Design.REPRISE, Design.TUTORIAL])
def test_a_peer_delivers_everything_and_leaves_no_process_behind(design: Design, tmp_path: Path):
    before = set(with_children(os.getpid()))
    with Stage(tmp_path, on_step=no_step).peer(design) as peer:
        found = deliver(Stage(tmp_path, on_step=no_step), peer, SMALL, subscribers=4)
        pids = [pid for account in peer.accounts().values() for pid in account]
    assert found.drained.delivered == 3 * 20 * 4
    assert sorted(found.cpu) == ["load", "others", "redis", "server", "writers"]
    assert min(found.cpu["server"], found.cpu["redis"], found.cpu["writers"]) > 0
    assert [pid for pid in pids if is_alive(pid)] == []
    assert set(with_children(os.getpid())) == before


def test_a_server_that_is_killed_is_replaced_on_the_same_port(tmp_path: Path):
    with Stage(tmp_path, on_step=no_step).product() as product:
        killed = product.server
        product.kill_server()
        product.restart_server()
        product.server.wait_until(lambda: _answers(product.call), what="answer")
        assert product.server.pid != killed.pid


def _answers(call: Callable[[str, str], object]) -> bool:
    try:
        call("GET", "/health/live")
    except OSError:
        return False
    return True

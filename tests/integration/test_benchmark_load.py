"""The benchmark's subscribers, as a process against a server of ours: what they accept, and what they catch."""

import os
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress

import pytest

from benchmarks.load import child
from benchmarks.load.spec import Attached, Drained, LoadSpec
from benchmarks.load.transcript import Broken
from benchmarks.measure import cpu_seconds, resident_bytes
from benchmarks.payload import encoded, filling

SUBSCRIBERS = 5
EVENTS = 20
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
Script = Callable[[int], Iterable[int]]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def frame(number: int) -> bytes:
    return b"id: 1-%d\ndata: %b\n\n" % (number, encoded(number, time.monotonic_ns(), filling()))


@contextmanager
def hub(script: Script) -> Generator[LoadSpec]:
    """Sends the n-th subscriber the numbers of `script(n)`, once all are there."""
    frames = [frame(number) for number in range(EVENTS)]
    connections: list[socket.socket] = []

    def serve() -> None:
        for _ in range(SUBSCRIBERS):
            connection, _address = listener.accept()
            connection.recv(4096)
            connection.sendall(HEAD + chunk(b": hi\n\n"))
            connections.append(connection)
        with suppress(ConnectionError):  # a run that has failed hangs up on everybody
            for index, connection in enumerate(connections):
                for number in script(index):
                    connection.sendall(chunk(frames[number]))

    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        server = threading.Thread(target=serve)
        server.start()
        yield LoadSpec(
            host="127.0.0.1",
            port=listener.getsockname()[1],
            paths=("/s",),
            subscribers=SUBSCRIBERS,
            events=EVENTS,
            samples=2,
            patience_seconds=10,
        )
        server.join()
        for connection in connections:
            connection.close()


def load(spec: LoadSpec) -> Drained:
    with child.running("benchmarks.load.subscribers", spec) as running:
        running.hear(Attached, within_seconds=60)
        return running.hear(Drained, within_seconds=60)


def test_a_run_in_which_everybody_got_everything_is_reported_with_its_counts():
    with hub(lambda _: range(EVENTS)) as spec:
        found = load(spec)
    assert found.delivered == SUBSCRIBERS * EVENTS
    assert sorted(number for number, _ in found.sampled) == sorted([*range(EVENTS), *range(EVENTS)])
    assert min(latency for _, latency in found.sampled) > 0


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        ([*range(7), *range(8, EVENTS)], "expected event 7, got "),
        ([*range(8), 7, *range(8, EVENTS)], "expected event 8, got "),
        ([*range(7), 8, 7, *range(9, EVENTS)], "expected event 7, got "),
        ([*range(EVENTS), EVENTS - 1], "expected event 20, got event 19"),
        (range(EVENTS - 1), "1 of 5 subscribers lack events.*expected 20 events, got 19"),
    ],
    ids=["lost", "doubled", "reordered", "the last doubled", "the last lost"],
)
def test_one_subscriber_with_a_wrong_event_fails_the_run(numbers: Iterable[int], sentence: str):
    with hub(lambda index: numbers if index == 3 else range(EVENTS)) as spec, pytest.raises(Broken, match=sentence):
        load(spec)


def test_the_kernels_accounts_of_a_process_are_its_own():
    before, own = cpu_seconds([os.getpid()]), time.process_time()
    while time.process_time() - own < 0.05:
        pass
    spent = cpu_seconds([os.getpid()]) - before
    assert spent >= 0.05
    assert resident_bytes([os.getpid()]) > 1_000_000

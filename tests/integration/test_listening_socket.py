"""The listening socket as the kernel sees it: what is set there, accepted connections have."""

from __future__ import annotations

import socket

import pytest

from server.listening import BACKLOG, SEND_BUFFER_BYTES, listen

CONNECTIONS = 300


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the option is Linux's")
def test_accepted_connections_have_a_bounded_send_buffer_and_a_timeout_for_readers_that_take_nothing():
    (listener,) = listen("127.0.0.1", 0, stall_seconds=7.0)
    with listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            # The kernel doubles what it is given, for its own book-keeping.
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * SEND_BUFFER_BYTES
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def test_a_crowd_that_knocks_before_anybody_answers_is_let_in():
    (listener,) = listen("127.0.0.1", 0)
    assert CONNECTIONS < BACKLOG
    with listener:
        waiting = [socket.create_connection(listener.getsockname(), timeout=30) for _ in range(CONNECTIONS)]
        for each in waiting:
            listener.accept()[0].close()
            each.close()

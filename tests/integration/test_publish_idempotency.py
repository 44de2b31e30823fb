"""Any order of requests, repeats and late copies: each is stored once, all of it or none, and answered alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.streams import calls
from server.streams.connections import connect_sync, run_sync
from server.streams.event import Draft
from server.streams.ids import ORIGIN, EventId
from server.streams.keys import Keys
from server.streams.marks import keyed
from server.streams.retention import Retention
from tests.support.log_hand import LIFETIMES
from tests.support.redis_server import RedisServer

#: Few of each, so that keys meet the same and other bodies.
bodies = st.sampled_from(["a", "b", "ab", "abc"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from(["", "k1", "k2", "k3"]), bodies, st.booleans()),
        st.tuples(
            st.sampled_from(["close", "another incarnation", "delete", "make anew"]),
            st.just(""),
            st.just(""),
            st.just(False),
        ),
    ),
    max_size=25,
)


@dataclass
class Model:
    """What a stream should be."""

    stored: list[str] = field(default_factory=list[str])
    #: By key: the body that it stands for and the ids it got.
    answers: dict[str, tuple[tuple[str, bool], EventId]] = field(
        default_factory=dict[str, tuple[tuple[str, bool], EventId]]
    )
    is_closed: bool = False
    is_deleted: bool = False

    def expected(self, key: str, body: tuple[str, bool]) -> str:
        if self.is_deleted:
            return "deleted"
        if key in self.answers:
            return "repeated" if self.answers[key][0] == body else "conflict"
        return "closed" if self.is_closed else "stored"


@given(steps)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_request_is_stored_once_and_answered_alike(
    redis_server: RedisServer, steps: list[tuple[str, str, str, bool]]
):
    redis_server.flush()
    client, keys, model = connect_sync(redis_server.url, name="test"), Keys(), Model()
    for number, (kind, key, body, is_keyed) in enumerate(steps):
        if kind == "another incarnation":
            client.execute_command("DEBUG", "CHANGE-REPL-ID")
            continue
        if kind == "delete":
            end = Draft("cancelled", "{}")
            erasing = calls.erase(keys, "chat", end, entropy=number, known=None, lifetimes=LIFETIMES)
            if run_sync(client, erasing).outcome == "deleted":
                model = Model(is_deleted=True)
            continue
        if kind == "make anew":
            run_sync(client, calls.configure(keys, "chat", Retention(), lifetimes=LIFETIMES, max_events=0))
            model.is_deleted = False
            continue
        plain = [Draft("n", letter) for letter in body]
        ends = kind == "close"
        drafts = [Draft("complete", "{}")] if ends else [keyed(each, "k") for each in plain] if is_keyed else plain
        call = calls.publish(
            keys,
            "chat",
            drafts,
            token=key or f"own{number}",
            token_ms=60_000,
            entropy=number,
            known=None,
            lifetimes=LIFETIMES,
            max_events=0,
            is_terminal=ends,
        )
        reply = run_sync(client, call)
        assert reply.outcome == model.expected(key, (body, is_keyed))
        if reply.outcome == "stored":
            model.stored += [each.data for each in drafts]
            model.is_closed = ends
            if key:
                model.answers[key] = ((body, is_keyed), reply.id)
        elif reply.outcome == "repeated":
            assert reply.id == model.answers[key][1]
    found = run_sync(client, calls.read(keys, "chat", first=ORIGIN, last=None, limit=1000)).events
    assert [each.data for each in found] == model.stored
    assert all(later.id.continues(earlier.id) or later.previous == earlier.id for earlier, later in pairwise(found))
    client.close()

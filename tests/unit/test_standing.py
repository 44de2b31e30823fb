"""Standing events: the recursion of the protocol against a model that keeps every event in a list."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from server.fanout.standing import Standing, Stretch
from server.streams.ids import MAX_HALF, ORIGIN, EventId
from server.streams.records import Link, decode_chain

#: The newest generation has no end; for the model this many events are as good.
_OPEN = 12


@dataclass
class Run:
    """Attempts of one run, naively: what stands is a list, and a resumed attempt cuts it."""

    standing: list[EventId]
    chain: list[Link]


@st.composite
def runs(draw: st.DrawFn) -> Run:
    run = Run([], [])
    generation = 0
    for _ in range(draw(st.integers(1, 5))):
        generation += draw(st.integers(1, 3))
        resume = draw(st.none() | st.sampled_from(run.standing)) if run.standing else None
        run.standing = [event for event in run.standing if resume and event <= resume]
        run.chain = [link for link in run.chain if resume and link.generation <= resume.generation]
        run.chain.append(Link(generation, resume))
        run.standing += [EventId(generation, sequence) for sequence in range(draw(st.integers(1, 4)))]
    run.standing = [event for event in run.standing if event.generation < generation]
    run.standing += [EventId(generation, sequence) for sequence in range(_OPEN)]
    return run


cursors = st.builds(EventId, st.integers(0, 17), st.integers(0, _OPEN - 2) | st.just(MAX_HALF))


@given(runs(), cursors)
def test_the_next_event_is_the_first_standing_one_above_the_cursor(run: Run, cursor: EventId):
    following = [event for event in run.standing if event > cursor]
    newest = run.chain[-1].generation
    if cursor.generation == newest and cursor.sequence == MAX_HALF:
        return
    assert Standing(tuple(run.chain)).next_after(cursor) == (following[0] if following else None)


@given(runs(), cursors)
def test_an_event_lies_in_a_stretch_if_and_only_if_it_stands(run: Run, event: EventId):
    stretch = Standing(tuple(run.chain)).stretch_of(event)
    if event.sequence < _OPEN:
        assert (stretch is not None) == (event in run.standing)
    if stretch is not None:
        assert stretch.first <= event
        assert stretch.last is None or event <= stretch.last


@given(runs())
def test_walking_from_the_beginning_meets_every_standing_event_once(run: Run):
    standing, cursor, met = Standing(tuple(run.chain)), ORIGIN, list[EventId]()
    while len(met) < len(run.standing) and (following := standing.next_after(cursor)) is not None:
        met.append(following)
        cursor = following
    assert met == run.standing


@given(runs())
def test_only_the_newest_generation_is_open(run: Run):
    standing = Standing(tuple(run.chain))
    assert [stretch.last is None for stretch in standing.stretches] == [False] * (len(run.chain) - 1) + [True]
    assert standing.newest == run.chain[-1].generation


def test_a_cursor_inside_what_became_void_is_led_to_the_next_attempt():
    standing = Standing(decode_chain('[["5",null],["8","5-2"]]'))
    assert standing.stretches == (Stretch(5, 2), Stretch(8, None))
    assert [standing.next_after(EventId(5, sequence)) for sequence in (1, 2, 3, 40)] == [
        EventId(5, 2),
        EventId(8, 0),
        EventId(8, 0),
        EventId(8, 0),
    ]
    assert standing.next_after(EventId(3, 7)) == EventId(5, 0)


def test_nothing_stands_before_the_first_claim_or_ahead_of_the_newest_generation():
    assert Standing(()).next_after(ORIGIN) is None
    assert Standing(()).newest is None
    assert Standing(decode_chain('[["5",null]]')).next_after(EventId(6, 0)) is None

"""For how long a worker has been in touch with Redis: what breaks it, and what does not."""

import pytest

from server.streams.contact import Contact


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def contact(clock: Clock) -> Contact:
    return Contact(max_silence_seconds=2, clock=clock)


def hear_for(contact: Contact, clock: Clock, seconds: float) -> None:
    for _ in range(int(seconds)):
        clock.now += 1
        contact.heard()


def test_there_is_none_before_the_first_reply(contact: Contact) -> None:
    assert contact.seconds == 0


def test_it_counts_from_the_first_reply_while_others_follow(contact: Contact, clock: Clock) -> None:
    contact.heard()
    hear_for(contact, clock, 10)
    assert contact.seconds == 10


def test_a_silence_ends_it_and_the_next_reply_begins_it_anew(contact: Contact, clock: Clock) -> None:
    contact.heard()
    hear_for(contact, clock, 10)
    clock.now += 2.5
    assert contact.seconds == 0
    contact.heard()
    assert contact.seconds == 0
    hear_for(contact, clock, 3)
    assert contact.seconds == 3


def test_a_refused_command_ends_it_at_once(contact: Contact, clock: Clock) -> None:
    contact.heard()
    hear_for(contact, clock, 10)
    contact.lost()
    assert contact.seconds == 0

"""The script that hands a running task back: to whom it answers what, and what it leaves behind."""

from server.streams.calls import Renewal, Reply
from tests.support.log_hand import Hand


async def test_a_released_task_can_be_claimed_at_once_and_its_attempt_is_not_counted(hand: Hand):
    await hand.running()
    assert await hand.release() == Reply("released")
    fields = await hand.fields()
    assert (fields["status"], fields["owner"], fields["spent"]) == ("pending", "", "0")
    assert await hand.renew() == Renewal("fenced")
    assert (await hand.claimed(nonce="n2")).attempt == 2


async def test_the_same_release_again_gets_the_same_answer_and_changes_nothing(hand: Hand):
    await hand.running()
    await hand.release()
    before = await hand.fields()
    assert await hand.release() == Reply("released")
    assert await hand.fields() == before


async def test_a_release_again_after_the_next_claim_is_fenced(hand: Hand):
    await hand.running()
    await hand.release()
    await hand.claimed(nonce="n2")
    before = await hand.fields()
    assert await hand.release() == Reply("fenced")
    assert await hand.fields() == before
    assert "handed_back_by" not in before


async def test_a_release_by_another_or_after_the_end_is_fenced(hand: Hand):
    await hand.running()
    assert await hand.release(nonce="n2") == Reply("fenced")
    assert (await hand.fields())["status"] == "running"
    await hand.ended("b")
    assert await hand.release("b") == Reply("fenced")


async def test_a_release_of_a_lost_record_is_missing_and_creates_none(hand: Hand):
    await hand.running()
    await hand.lose_record()
    assert await hand.release() == Reply("missing")
    assert await hand.fields() == {}


async def test_a_task_that_was_cancelled_is_not_released_but_left_to_its_writer(hand: Hand):
    await hand.running()
    assert await hand.settle() == Reply("flagged")
    before = await hand.fields()
    assert await hand.release() == Reply("cancelled")
    assert await hand.fields() == before


async def test_a_cancel_after_the_release_ends_the_task_at_once(hand: Hand):
    await hand.running()
    await hand.release()
    assert (await hand.settle()).outcome == "settled"
    assert await hand.release() == Reply("fenced")
    assert (await hand.fields())["status"] == "cancelled"

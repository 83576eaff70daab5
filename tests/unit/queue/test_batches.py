"""How messages are cut into batches, whatever the messages."""

from itertools import chain, pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.queue.batches import MAX_BATCH_BYTES, MAX_BATCH_ENTRIES, cut_batches, message_bytes
from shared.queue.ports import OutgoingMessage

# Sizes around the limits matter, random text of that size does not: a unit repeated is as good, and fast.
BODIES = st.builds(
    lambda unit, count: unit * count,
    st.sampled_from(["x", "é", "世", "🙂", "\n", "\x00", "\ud800", "\ufffe"]),
    st.one_of(
        st.integers(0, 300_000),
        st.sampled_from([MAX_BATCH_BYTES // size + extra for size in (1, 2, 3, 4, 10) for extra in (-1, 0, 1)]),
    ),
)
# A case may be many megabytes, whose time says more about the machine than about the code.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
GROUPS = st.none() | st.sampled_from(["tenant", "x" * 128, "x" * 129, "", "ünknown", "two words"])


@st.composite
def outgoing(draw: st.DrawFn) -> list[OutgoingMessage]:
    contents = draw(st.lists(st.tuples(BODIES, GROUPS), max_size=25))
    return [OutgoingMessage(str(number), body, group) for number, (body, group) in enumerate(contents)]


@unhurried
@given(outgoing())
def test_nothing_is_lost_and_nothing_doubled(messages: list[OutgoingMessage]):
    cut = cut_batches(messages)

    ids = [message.id for message in chain.from_iterable(cut.batches)] + [failure.id for failure in cut.refused]
    assert sorted(ids) == sorted(message.id for message in messages)


@unhurried
@given(outgoing())
def test_every_batch_keeps_the_limits(messages: list[OutgoingMessage]):
    for batch in cut_batches(messages).batches:
        assert 1 <= len(batch) <= MAX_BATCH_ENTRIES
        assert sum(map(message_bytes, batch)) <= MAX_BATCH_BYTES


@unhurried
@given(outgoing())
def test_the_order_is_kept(messages: list[OutgoingMessage]):
    cut = cut_batches(messages)

    sent = list(chain.from_iterable(cut.batches))
    assert sent == [message for message in messages if message in sent]


@unhurried
@given(outgoing())
def test_no_batch_could_have_taken_the_first_message_of_the_next(messages: list[OutgoingMessage]):
    batches = cut_batches(messages).batches

    for batch, following in pairwise(batches):
        size = sum(map(message_bytes, [*batch, following[0]]))
        assert len(batch) == MAX_BATCH_ENTRIES or size > MAX_BATCH_BYTES


@unhurried
@given(outgoing())
def test_only_what_no_batch_can_carry_is_refused(messages: list[OutgoingMessage]):
    cut = cut_batches(messages)

    assert all(failure.sender_fault for failure in cut.refused)
    for refused in cut.refused:
        [alone] = [message for message in messages if message.id == refused.id]
        assert cut_batches([alone]).refused == [refused]


@pytest.mark.parametrize(
    ("body", "group", "code"),
    [
        ("", None, "InvalidMessageContents"),
        ("\x0b", None, "InvalidMessageContents"),
        ("\udfff", None, "InvalidMessageContents"),
        ("é" * (MAX_BATCH_BYTES // 2) + "x", None, "MessageTooLong"),
        ("x" * MAX_BATCH_BYTES, "tenant", "MessageTooLong"),
        ("x", "two words", "InvalidParameterValue"),
    ],
)
def test_a_refusal_names_its_reason(body: str, group: str | None, code: str):
    [failure] = cut_batches([OutgoingMessage("1", body, group)]).refused

    assert failure.code == code


def test_a_message_of_exactly_the_limit_is_sent():
    [[message]] = cut_batches([OutgoingMessage("1", "é" * (MAX_BATCH_BYTES // 2))]).batches

    assert message_bytes(message) == MAX_BATCH_BYTES

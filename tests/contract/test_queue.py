"""What every queue promises, seen on each adapter."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.queue.memory import DeadLetter, MemoryQueue
from shared.queue.ports import OutgoingMessage, Queue, QueueDepth, ReceivedMessage
from shared.queue.sqs import SqsConfig, create_queues, open_sqs
from tests.fixtures.sqs import take_dead_letters

NOW = timedelta(0)
SECOND = timedelta(seconds=1)
WAIT = timedelta(seconds=5)
MAX_RECEIVE_COUNT = 3

DeadLetters = Callable[[], Awaitable[list[DeadLetter]]]


@pytest.fixture(params=["memory", "sqs"])
async def adapter(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Queue, DeadLetters]]:
    if request.param == "memory":
        memory = MemoryQueue(max_receive_count=MAX_RECEIVE_COUNT)

        async def from_memory() -> list[DeadLetter]:
            return memory.dead_letters

        yield memory, from_memory
    else:
        config: SqsConfig = replace(request.getfixturevalue("sqs_config"), max_receive_count=MAX_RECEIVE_COUNT)
        await create_queues(config)

        async def from_sqs() -> list[DeadLetter]:
            return await take_dead_letters(config)

        async with open_sqs(config) as queue:
            yield queue, from_sqs


@pytest.fixture
def queue(adapter: tuple[Queue, DeadLetters]) -> Queue:
    return adapter[0]


@pytest.fixture
def dead_letters(adapter: tuple[Queue, DeadLetters]) -> DeadLetters:
    return adapter[1]


def outgoing(*bodies: str) -> list[OutgoingMessage]:
    return [OutgoingMessage(id=f"message-{number}", body=body) for number, body in enumerate(bodies)]


async def receive_all(queue: Queue, count: int) -> list[ReceivedMessage]:
    """Return `count` messages, in as many receives as it takes."""
    received: list[ReceivedMessage] = []
    while len(received) < count:
        received += await queue.receive(max_messages=10, wait=WAIT)
    return received


async def send_and_receive(queue: Queue, *bodies: str) -> list[ReceivedMessage]:
    assert await queue.send(outgoing(*bodies)) == []
    return await receive_all(queue, len(bodies))


def bodies_of(messages: list[ReceivedMessage]) -> list[str]:
    return sorted(message.body for message in messages)


class TestSend:
    async def test_what_is_sent_is_received(self, queue: Queue):
        before = datetime.now(UTC) - SECOND

        [message] = await send_and_receive(queue, '{"text": "Grüße, 世界 🙂"}')

        assert message.body == '{"text": "Grüße, 世界 🙂"}'
        assert message.receive_count == 1
        assert before < message.sent_at < datetime.now(UTC) + SECOND
        assert message.sent_at.tzinfo is UTC

    async def test_nothing_is_sent_well(self, queue: Queue):
        assert await queue.send([]) == []

        assert await queue.depth() == QueueDepth(visible=0, in_flight=0, delayed=0)

    async def test_more_than_one_batch_arrives_completely(self, queue: Queue):
        bodies = [f"body {number:03}" for number in range(35)]

        received = await send_and_receive(queue, *bodies)

        assert bodies_of(received) == bodies

    async def test_messages_too_large_for_one_batch_arrive_in_several(self, queue: Queue):
        bodies = [letter * 600_000 for letter in "abc"]

        received = await send_and_receive(queue, *bodies)

        assert bodies_of(received) == bodies

    async def test_a_message_with_a_group_arrives(self, queue: Queue):
        failures = await queue.send([OutgoingMessage(id="1", body="hello", group="0190c9d2-tenant")])

        assert failures == []
        assert bodies_of(await receive_all(queue, 1)) == ["hello"]

    @pytest.mark.parametrize("body", ["", "x" * 1_048_577, "a\x00b", "\ud800", "\uffff"])
    async def test_an_unsendable_message_is_reported_and_does_not_hold_up_the_others(self, queue: Queue, body: str):
        [failure] = await queue.send(outgoing("before", body, "after"))

        assert failure.id == "message-1"
        assert failure.sender_fault
        assert failure.code
        assert failure.detail
        assert bodies_of(await receive_all(queue, 2)) == ["after", "before"]


class TestReceive:
    async def test_an_empty_queue_answers_at_once_without_a_wait(self, queue: Queue):
        async with asyncio.timeout(1):
            assert await queue.receive(max_messages=10, wait=NOW) == []

    async def test_an_empty_queue_answers_after_the_wait(self, queue: Queue):
        async with asyncio.timeout(4):
            assert await queue.receive(max_messages=10, wait=SECOND) == []

    async def test_a_message_ends_the_wait(self, queue: Queue):
        async with asyncio.timeout(15), asyncio.TaskGroup() as tasks:
            receiving = tasks.create_task(queue.receive(max_messages=10, wait=timedelta(seconds=20)))
            await asyncio.sleep(0.1)
            await queue.send(outgoing("hello"))

        assert bodies_of(receiving.result()) == ["hello"]

    async def test_no_more_messages_come_than_asked_for(self, queue: Queue):
        await queue.send(outgoing("a", "b", "c"))

        assert len(await queue.receive(max_messages=2, wait=WAIT)) == 2

    async def test_a_message_on_loan_is_hidden(self, queue: Queue):
        await send_and_receive(queue, "hello")

        assert await queue.receive(max_messages=10, wait=NOW) == []

    async def test_a_message_received_too_often_becomes_a_dead_letter(self, queue: Queue, dead_letters: DeadLetters):
        [message] = await send_and_receive(queue, "hello")
        for _ in range(MAX_RECEIVE_COUNT - 1):
            await queue.release([message], after=NOW)
            [message] = await queue.receive(max_messages=1, wait=WAIT)
        await queue.release([message], after=NOW)

        assert await queue.receive(max_messages=1, wait=SECOND) == []

        assert await dead_letters() == [DeadLetter("hello", message.id, MAX_RECEIVE_COUNT)]


class TestDelete:
    async def test_deleted_messages_are_gone(self, queue: Queue):
        received = await send_and_receive(queue, *map(str, range(30)))

        assert await queue.delete(received) == []

        assert (await queue.depth()).total == 0

    async def test_deleting_nothing_is_harmless(self, queue: Queue):
        assert await queue.delete([]) == []

    async def test_deleting_twice_is_harmless(self, queue: Queue):
        [message] = await send_and_receive(queue, "hello")
        await queue.delete([message])

        assert await queue.delete([message]) == []

    async def test_a_receipt_the_queue_does_not_know_is_reported(self, queue: Queue):
        good, other = await send_and_receive(queue, "good", "other")
        bad = replace(other, receipt="unknown")

        assert await queue.delete([bad, good]) == [bad]

        assert (await queue.depth()).total == 1


class TestExtend:
    async def test_a_message_comes_back_when_its_visibility_timeout_passes(self, queue: Queue):
        [message] = await send_and_receive(queue, "hello")
        assert await queue.extend([message], visibility=SECOND) == []

        [again] = await queue.receive(max_messages=1, wait=WAIT)

        assert again.id == message.id
        assert again.receive_count == 2
        assert again.receipt != message.receipt
        assert again.sent_at == message.sent_at

    async def test_an_extended_message_stays_hidden(self, queue: Queue):
        [message] = await send_and_receive(queue, "hello")
        await queue.extend([message], visibility=SECOND)
        await queue.extend([message], visibility=WAIT * 2)

        assert await queue.receive(max_messages=1, wait=2 * SECOND) == []

    async def test_a_message_that_is_gone_is_reported(self, queue: Queue):
        gone, kept = await send_and_receive(queue, "gone", "kept")
        await queue.delete([gone])

        assert await queue.extend([gone, kept], visibility=WAIT) == [gone]


class TestRelease:
    async def test_a_released_message_returns_with_a_higher_count(self, queue: Queue):
        [message] = await send_and_receive(queue, "hello")

        assert await queue.release([message], after=NOW) == []

        [again] = await queue.receive(max_messages=1, wait=WAIT)
        assert again.body == "hello"
        assert again.receive_count == 2

    async def test_a_message_released_for_later_stays_hidden_until_then(self, queue: Queue):
        [message] = await send_and_receive(queue, "hello")

        await queue.release([message], after=SECOND)

        assert await queue.receive(max_messages=1, wait=NOW) == []
        [again] = await queue.receive(max_messages=1, wait=WAIT)
        assert again.id == message.id

    async def test_many_messages_are_released_together(self, queue: Queue):
        received = await send_and_receive(queue, *map(str, range(25)))

        assert await queue.release(received, after=NOW) == []

        assert len(await receive_all(queue, 25)) == 25


class TestDeadLetter:
    async def test_a_dead_letter_leaves_the_queue_and_keeps_its_body_and_reason(
        self, queue: Queue, dead_letters: DeadLetters
    ):
        [message] = await send_and_receive(queue, "poison")

        await queue.dead_letter(message, reason="malformed_envelope", detail="The message is not JSON.")

        assert (await queue.depth()).total == 0
        assert await dead_letters() == [
            DeadLetter("poison", message.id, 1, "malformed_envelope", "The message is not JSON.")
        ]


class TestDepth:
    async def test_messages_are_counted_by_their_state(self, queue: Queue):
        await queue.send(outgoing("a", "b", "c"))
        await queue.receive(max_messages=1, wait=WAIT)

        depth = await queue.depth()

        assert depth == QueueDepth(visible=2, in_flight=1, delayed=0)
        assert depth.total == 3


class TestCheck:
    async def test_a_queue_just_created_is_fine(self, queue: Queue):
        await queue.check()

"""What the in-memory queue does beyond the contract: it is strict where SQS is free to be, and obeys its clock."""

from datetime import UTC, datetime, timedelta

from shared.queue.memory import MemoryQueue
from shared.queue.ports import OutgoingMessage, ReceivedMessage

NOW = timedelta(0)
VISIBILITY = timedelta(seconds=30)
SENT_AT = datetime(2026, 11, 22, tzinfo=UTC)


class Seconds:
    """A monotonic clock that is turned by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def lend(queue: MemoryQueue) -> ReceivedMessage:
    [message] = await queue.receive(max_messages=1, wait=NOW)
    return message


async def queue_with_one_message(seconds: Seconds) -> MemoryQueue:
    queue = MemoryQueue(visibility_timeout=VISIBILITY, monotonic=seconds, clock=lambda: SENT_AT)
    await queue.send([OutgoingMessage("1", "hello")])
    return queue


async def test_a_loan_ends_when_the_clock_says_so():
    seconds = Seconds()
    queue = await queue_with_one_message(seconds)
    first = await lend(queue)

    seconds.now = 29.9
    assert await queue.receive(max_messages=1, wait=NOW) == []

    seconds.now = 30
    again = await lend(queue)
    assert (again.id, again.receive_count, again.sent_at) == (first.id, 2, SENT_AT)


async def test_an_old_receipt_deletes_nothing_once_the_message_is_lent_again():
    seconds = Seconds()
    queue = await queue_with_one_message(seconds)
    old = await lend(queue)
    seconds.now = 30
    current = await lend(queue)

    assert await queue.delete([old]) == [old]
    assert await queue.delete([current]) == []


async def test_an_expired_loan_still_allows_to_delete():
    seconds = Seconds()
    queue = await queue_with_one_message(seconds)
    message = await lend(queue)
    seconds.now = 30

    assert await queue.delete([message]) == []

    assert (await queue.depth()).total == 0


async def test_an_expired_loan_cannot_be_extended():
    seconds = Seconds()
    queue = await queue_with_one_message(seconds)
    message = await lend(queue)
    seconds.now = 30

    assert await queue.extend([message], visibility=VISIBILITY) == [message]

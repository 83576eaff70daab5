"""What the batch calls of SQS have in common: ten entries each, made side by side, answered entry by entry."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeVar, Union

from shared.queue.batches import MAX_BATCH_ENTRIES
from shared.queue.ports import QueueUnavailable

if TYPE_CHECKING:
    from types_aiobotocore_sqs.type_defs import (
        BatchResultErrorEntryTypeDef,
        ChangeMessageVisibilityBatchResultTypeDef,
        DeleteMessageBatchResultTypeDef,
        SendMessageBatchResultTypeDef,
    )

BatchResult: TypeAlias = Union[
    "SendMessageBatchResultTypeDef", "DeleteMessageBatchResultTypeDef", "ChangeMessageVisibilityBatchResultTypeDef"
]
M = TypeVar("M")
F = TypeVar("F")


async def side_by_side(
    call: Callable[[Sequence[M]], Awaitable[list[F]]],
    batches: Iterable[Sequence[M]],
    *,
    when_unavailable: Callable[[M, QueueUnavailable], F],
    slots: asyncio.Semaphore,
) -> list[F]:
    """Make one call per batch and return the failures of all, in order; raise only if no call went through.

    A batch whose call did not go through fails as a whole. The others are done
    nevertheless, and the caller has to learn that they are.

    Args:
        call: Makes one call and returns its failures.
        batches: What to call it with.
        when_unavailable: Makes a failure of a message whose call did not go through.
        slots: Bounds the calls in progress.

    Raises:
        QueueUnavailable: No call went through.
    """

    async def attempt(batch: Sequence[M]) -> tuple[list[F], QueueUnavailable | None]:
        async with slots:
            try:
                return await call(batch), None
            except QueueUnavailable as error:
                return [when_unavailable(message, error) for message in batch], error

    answers = await asyncio.gather(*(attempt(batch) for batch in batches))
    errors = [error for _, error in answers if error]
    if errors and len(errors) == len(answers):
        raise errors[0]
    return [failure for failures, _ in answers for failure in failures]


def tens(messages: Sequence[M]) -> list[Sequence[M]]:
    """Return the messages in batches as large as SQS takes."""
    return [messages[start : start + MAX_BATCH_ENTRIES] for start in range(0, len(messages), MAX_BATCH_ENTRIES)]


def numbered(batch: Sequence[M]) -> list[tuple[str, M]]:
    """Return the messages with ids for the entries: numbers, which SQS takes whatever our own ids look like."""
    return [(str(number), message) for number, message in enumerate(batch)]


def not_confirmed(batch: Sequence[M], response: BatchResult) -> "list[tuple[M, BatchResultErrorEntryTypeDef]]":
    """Return the messages that SQS does not list as successful, with what it says about each.

    An entry in neither list counts as failed: doing it again is harmless, taking it
    for done is not.
    """
    unlisted: BatchResultErrorEntryTypeDef = {
        "Id": "",
        "SenderFault": False,
        "Code": "NotConfirmed",
        "Message": "SQS did not say what became of it.",
    }
    confirmed = {entry["Id"] for entry in response.get("Successful", [])}
    reported = {entry["Id"]: entry for entry in response.get("Failed", [])}
    return [(message, reported.get(number, unlisted)) for number, message in numbered(batch) if number not in confirmed]

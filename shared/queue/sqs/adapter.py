"""The port of the queue in terms of SQS.

A failed entry of a batch is answered, not tried again here: those who send and settle have
a retry of their own that survives a restart (the outbox, redelivery), and a second loop
inside the first would only multiply attempts and hold up the rest of the batch. What
passes within a second, a lost connection or a throttled call, botocore tries again.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from typing_extensions import override

from shared.queue.batches import UNSENDABLE, cut_batches
from shared.queue.ports import OutgoingMessage, Queue, QueueDepth, QueueUnavailable, ReceivedMessage, SendFailure
from shared.queue.sqs.batch_calls import not_confirmed, numbered, side_by_side, tens
from shared.queue.sqs.client import (
    MAX_BATCH_CALLS,
    RefusedBySqs,
    SqsConfig,
    get_queue_url,
    open_client,
    sqs_call,
    whole_seconds,
)
from shared.queue.sqs.setup import check_queues

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient
    from types_aiobotocore_sqs.type_defs import (
        MessageAttributeValueTypeDef,
        MessageTypeDef,
        SendMessageBatchRequestEntryTypeDef,
    )

# Refusals that blame the content. One entry can bring them upon a whole batch.
_CONTENT_REFUSALS = frozenset(
    {
        "BatchRequestTooLong",
        "InvalidMessageContents",
        "InvalidParameterValue",
        "MissingParameter",
    }
)

# Room for a sentence or the end of a traceback; attributes count towards the size of a message.
_MAX_ATTRIBUTE_BYTES = 1024


@asynccontextmanager
async def open_sqs(config: SqsConfig) -> "AsyncIterator[SqsQueue]":
    """Open the queue for one process: one client, one pool of connections, shared by all its tasks.

    Opening does not call SQS. Await `check()` to find out whether the queue is there.
    """
    async with open_client(config) as client:
        yield SqsQueue(client, config)


class SqsQueue(Queue):
    """A standard queue. Batches of one call are sent side by side."""

    def __init__(self, client: "SQSClient", config: SqsConfig) -> None:
        """Use a client that somebody else opened and will close."""
        self._client = client
        self._config = config
        self._urls: dict[str, str] = {}
        self._slots = asyncio.Semaphore(MAX_BATCH_CALLS)

    @override
    async def send(self, messages: Sequence[OutgoingMessage]) -> list[SendFailure]:
        cut = cut_batches(messages)
        failures = await side_by_side(self._send_batch, cut.batches, when_unavailable=_unavailable, slots=self._slots)
        return [*cut.refused, *failures]

    @override
    async def receive(self, *, max_messages: int, wait: timedelta) -> list[ReceivedMessage]:
        url = await self._url(self._config.queue_name)
        # SQS answers after `wait` at the latest. Only if it has not done so within the ordinary deadline on top is
        # the call given up, and with it, until their visibility timeout, the messages SQS may have lent us by then.
        async with sqs_call("ReceiveMessage", timeout=wait + self._config.call_timeout):
            response = await self._client.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=max_messages,
                WaitTimeSeconds=int(wait.total_seconds()),
                MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
            )
            return [_received(message) for message in response.get("Messages", [])]

    @override
    async def delete(self, messages: Sequence[ReceivedMessage]) -> list[ReceivedMessage]:
        return await side_by_side(self._delete_batch, tens(messages), when_unavailable=_unsettled, slots=self._slots)

    @override
    async def extend(self, messages: Sequence[ReceivedMessage], *, visibility: timedelta) -> list[ReceivedMessage]:
        async def hide(batch: Sequence[ReceivedMessage]) -> list[ReceivedMessage]:
            return await self._hide_batch(batch, visibility)

        return await side_by_side(hide, tens(messages), when_unavailable=_unsettled, slots=self._slots)

    @override
    async def release(self, messages: Sequence[ReceivedMessage], *, after: timedelta) -> list[ReceivedMessage]:
        return await self.extend(messages, visibility=after)

    @override
    async def dead_letter(self, message: ReceivedMessage, *, reason: str, detail: str) -> None:
        url = await self._url(self._config.dead_letter_queue_name)
        attributes: dict[str, MessageAttributeValueTypeDef] = {
            "reason": _text_attribute(reason),
            "detail": _text_attribute(detail),
            "source_message_id": _text_attribute(message.id),
            "receive_count": {"DataType": "Number", "StringValue": str(message.receive_count)},
        }
        async with sqs_call("SendMessage", timeout=self._config.call_timeout):
            await self._client.send_message(QueueUrl=url, MessageBody=message.body, MessageAttributes=attributes)
        await self.delete([message])

    @override
    async def depth(self) -> QueueDepth:
        url = await self._url(self._config.queue_name)
        async with sqs_call("GetQueueAttributes", timeout=self._config.call_timeout):
            response = await self._client.get_queue_attributes(
                QueueUrl=url,
                AttributeNames=[
                    "ApproximateNumberOfMessages",
                    "ApproximateNumberOfMessagesNotVisible",
                    "ApproximateNumberOfMessagesDelayed",
                ],
            )
            attributes = response["Attributes"]
            return QueueDepth(
                visible=int(attributes["ApproximateNumberOfMessages"]),
                in_flight=int(attributes["ApproximateNumberOfMessagesNotVisible"]),
                delayed=int(attributes["ApproximateNumberOfMessagesDelayed"]),
            )

    @override
    async def check(self) -> None:
        await check_queues(self._client, self._config)

    async def _send_batch(self, batch: Sequence[OutgoingMessage]) -> list[SendFailure]:
        url = await self._url(self._config.queue_name)
        try:
            async with sqs_call("SendMessageBatch", timeout=self._config.call_timeout):
                response = await self._client.send_message_batch(
                    QueueUrl=url, Entries=[_entry(number, message) for number, message in numbered(batch)]
                )
        except RefusedBySqs as error:
            if error.code not in _CONTENT_REFUSALS:
                raise
            if len(batch) == 1:
                return [SendFailure(batch[0].id, error.code, error.detail, sender_fault=True)]
            # The answer does not say which entry is at fault, so each is sent alone.
            return [failure for message in batch for failure in await self._send_batch([message])]
        return [
            SendFailure(
                message.id,
                code=failed["Code"],
                detail=failed.get("Message", ""),
                sender_fault=failed["SenderFault"],
            )
            for message, failed in not_confirmed(batch, response)
        ]

    async def _delete_batch(self, batch: Sequence[ReceivedMessage]) -> list[ReceivedMessage]:
        url = await self._url(self._config.queue_name)
        async with sqs_call("DeleteMessageBatch", timeout=self._config.call_timeout):
            response = await self._client.delete_message_batch(
                QueueUrl=url,
                Entries=[{"Id": number, "ReceiptHandle": message.receipt} for number, message in numbered(batch)],
            )
        return [message for message, _ in not_confirmed(batch, response)]

    async def _hide_batch(self, batch: Sequence[ReceivedMessage], duration: timedelta) -> list[ReceivedMessage]:
        url = await self._url(self._config.queue_name)
        async with sqs_call("ChangeMessageVisibilityBatch", timeout=self._config.call_timeout):
            response = await self._client.change_message_visibility_batch(
                QueueUrl=url,
                Entries=[
                    {"Id": number, "ReceiptHandle": message.receipt, "VisibilityTimeout": whole_seconds(duration)}
                    for number, message in numbered(batch)
                ],
            )
        return [message for message, _ in not_confirmed(batch, response)]

    async def _url(self, name: str) -> str:
        """Return the URL of one of our queues, which SQS is asked for once.

        Two tasks that ask at the same time both call SQS: the answer is the same, and a
        lock would let the second wait for the deadline of the first.
        """
        if name not in self._urls:
            self._urls[name] = await get_queue_url(self._client, self._config, name)
        return self._urls[name]


def _entry(number: str, message: OutgoingMessage) -> "SendMessageBatchRequestEntryTypeDef":
    entry: SendMessageBatchRequestEntryTypeDef = {"Id": number, "MessageBody": message.body}
    if message.group is not None:
        entry["MessageGroupId"] = message.group
    return entry


def _received(message: "MessageTypeDef") -> ReceivedMessage:
    attributes = message["Attributes"]
    return ReceivedMessage(
        id=message["MessageId"],
        body=message["Body"],
        receipt=message["ReceiptHandle"],
        receive_count=int(attributes["ApproximateReceiveCount"]),
        sent_at=datetime.fromtimestamp(int(attributes["SentTimestamp"]) / 1000, UTC),
    )


def _text_attribute(text: str) -> "MessageAttributeValueTypeDef":
    """Return an attribute that SQS takes: legal characters, not empty, and short."""
    legal = UNSENDABLE.sub("\ufffd", text) or "-"
    shortened = legal.encode()[:_MAX_ATTRIBUTE_BYTES].decode(errors="ignore")
    return {"DataType": "String", "StringValue": shortened}


def _unavailable(message: OutgoingMessage, error: QueueUnavailable) -> SendFailure:
    return SendFailure(message.id, code="QueueUnavailable", detail=str(error), sender_fault=False)


def _unsettled(message: ReceivedMessage, _error: QueueUnavailable) -> ReceivedMessage:
    return message

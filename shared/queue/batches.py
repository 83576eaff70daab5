"""Cuts messages into the batches that SQS takes. Pure, so that the limits can be tested without a queue."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from shared.queue.ports import OutgoingMessage, SendFailure

# Limits of SendMessageBatch: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
MAX_BATCH_ENTRIES = 10
MAX_BATCH_BYTES = 1_048_576

# SQS takes the characters of XML 1.0, which leaves out control characters, lone surrogates, U+FFFE and U+FFFF.
UNSENDABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_GROUP = re.compile(r"[!-~]{1,128}")


@dataclass(frozen=True, slots=True)
class CutMessages:
    """Messages ready to send, batch by batch, and those that SQS would refuse anyway."""

    batches: list[list[OutgoingMessage]]
    refused: list[SendFailure]


def cut_batches(messages: Iterable[OutgoingMessage]) -> CutMessages:
    """Return the messages in batches of at most 10 entries and 1 MiB, in the order given.

    A message that no batch can carry is refused here: one such entry makes SQS
    refuse the whole batch, and with it nine messages that did nothing wrong.
    """
    batches: list[list[OutgoingMessage]] = []
    refused: list[SendFailure] = []
    room = 0
    for message in messages:
        fault = _find_fault(message)
        if fault:
            refused.append(fault)
            continue
        size = message_bytes(message)
        if not batches or size > room or len(batches[-1]) == MAX_BATCH_ENTRIES:
            batches.append([])
            room = MAX_BATCH_BYTES
        batches[-1].append(message)
        room -= size
    return CutMessages(batches, refused)


def message_bytes(message: OutgoingMessage) -> int:
    """Return how much of a batch a message takes: its body and its group in UTF-8.

    SQS documents only that body and attributes count; counting the group too errs on the safe side.
    """
    return len(message.body.encode()) + len((message.group or "").encode())


def _find_fault(message: OutgoingMessage) -> SendFailure | None:
    if not message.body:
        return _refusal(message, "InvalidMessageContents", "The body is empty.")
    if UNSENDABLE.search(message.body):
        return _refusal(message, "InvalidMessageContents", "The body holds a character that SQS does not take.")
    if message.group is not None and not _GROUP.fullmatch(message.group):
        return _refusal(message, "InvalidParameterValue", "The group is not 1 to 128 printable ASCII characters.")
    if (size := message_bytes(message)) > MAX_BATCH_BYTES:
        return _refusal(message, "MessageTooLong", f"The message has {size} bytes, SQS takes {MAX_BATCH_BYTES}.")
    return None


def _refusal(message: OutgoingMessage, code: str, detail: str) -> SendFailure:
    return SendFailure(message.id, code, detail, sender_fault=True)

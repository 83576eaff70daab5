"""The way from the outbox to the worker: a port, its adapters `sqs` and `memory`, and the envelope they carry.

Adapters are imported from their own modules, by those who choose one.
"""

from shared.queue.envelope import Envelope, MalformedEnvelope, parse_envelope
from shared.queue.ports import (
    OutgoingMessage,
    Queue,
    QueueDepth,
    QueueMisconfigured,
    QueueUnavailable,
    ReceivedMessage,
    SendFailure,
)

__all__ = [
    "Envelope",
    "MalformedEnvelope",
    "OutgoingMessage",
    "Queue",
    "QueueDepth",
    "QueueMisconfigured",
    "QueueUnavailable",
    "ReceivedMessage",
    "SendFailure",
    "parse_envelope",
]

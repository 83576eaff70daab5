"""The port: what a queue is to those who send to it and receive from it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta


class QueueUnavailable(Exception):
    """The queue cannot be used now; later may work."""


class QueueMisconfigured(QueueUnavailable):
    """The queue refuses us, or is not set up as we need it, until somebody acts.

    The text says what to do. A process that starts should stop on this; one that
    already runs does best to wait, as it does when the queue is away.
    """


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """One message to send.

    Attributes:
        id: Names the message in the answer of `send`, hence unique in one call.
        body: Text of at most 1 MiB in UTF-8.
        group: Whose message it is. No group delays the others when it is noisy.
    """

    id: str
    body: str
    group: str | None = None


@dataclass(frozen=True, slots=True)
class SendFailure:
    """Why one message was not taken.

    Attributes:
        id: The `OutgoingMessage.id`.
        code: What went wrong, in one word.
        detail: What went wrong, for people.
        sender_fault: Whether the message itself is at fault, so that it will be refused again.
    """

    id: str
    code: str
    detail: str
    sender_fault: bool


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """One message on loan: the queue hides it from others until its visibility timeout passes.

    Attributes:
        id: The queue's own name for the message, the same each time it is received.
        body: What was sent.
        receipt: Proof of this loan; every receive brings a new one.
        receive_count: How often the message was received, this time included.
        sent_at: When the queue took it.
    """

    id: str
    body: str
    receipt: str
    receive_count: int
    sent_at: datetime


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """How many messages a queue holds, roughly: it counts without stopping the traffic."""

    visible: int
    in_flight: int
    delayed: int

    @property
    def total(self) -> int:
        """All messages, whatever their state."""
        return self.visible + self.in_flight + self.delayed


class Queue(ABC):
    """An at-least-once queue without order, with loans that expire and a place for dead letters.

    Every method raises `QueueUnavailable` when nothing could be done. When a part could, it
    returns normally and its answer names the rest, so that nobody repeats what was done.
    Durations are passed on in whole seconds: `wait` rounded down, the others rounded up.
    """

    @abstractmethod
    async def send(self, messages: Sequence[OutgoingMessage]) -> list[SendFailure]:
        """Send any number of messages and return those that were not taken.

        A message whose failure is reported may still have been taken, if only the
        answer was lost: receivers must bear duplicates.
        """

    @abstractmethod
    async def receive(self, *, max_messages: int, wait: timedelta) -> list[ReceivedMessage]:
        """Borrow up to `max_messages` messages; return as soon as there is one.

        Never cancel this. A queue that has lent out messages already keeps them hidden
        for the whole visibility timeout although nobody got them. To stop, wait for the
        receive under way and release what it brings.

        Args:
            max_messages: From 1 to 10.
            wait: How long to wait for the first message, at most 20 s; zero asks once.
        """

    @abstractmethod
    async def delete(self, messages: Sequence[ReceivedMessage]) -> list[ReceivedMessage]:
        """Delete messages that are done with; return those that could not be, which will come back.

        Deleting twice is harmless. A loan that expired may or may not still allow it.
        """

    @abstractmethod
    async def extend(self, messages: Sequence[ReceivedMessage], *, visibility: timedelta) -> list[ReceivedMessage]:
        """Keep messages hidden for `visibility` from now on; return those whose loan could not be extended."""

    @abstractmethod
    async def release(self, messages: Sequence[ReceivedMessage], *, after: timedelta) -> list[ReceivedMessage]:
        """Hand messages back, to be received again after the given time; return those that could not be.

        A message that could not be released comes back when its visibility timeout passes.
        """

    @abstractmethod
    async def dead_letter(self, message: ReceivedMessage, *, reason: str, detail: str) -> None:
        """Move a message to the dead-letter queue, with why it cannot be handled.

        The copy is made before the original is deleted: whatever fails, the message is
        never lost, though it may be in both queues and then becomes a dead letter twice.

        Args:
            message: The message on loan.
            reason: A word for machines, such as `malformed_envelope`.
            detail: A sentence for people; shortened when too long.
        """

    @abstractmethod
    async def depth(self) -> QueueDepth:
        """Return roughly how many messages the queue holds."""

    @abstractmethod
    async def check(self) -> None:
        """Return if the queue and its dead-letter queue can be used; else raise.

        Raises:
            QueueMisconfigured: They are missing or set up differently; the text says what to do.
            QueueUnavailable: The queue does not answer.
        """

"""The queue in this process's memory, for tests: behaves as SQS does, without a server."""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from typing_extensions import override

from shared.clock import Clock, utc_now
from shared.queue.batches import cut_batches
from shared.queue.ports import OutgoingMessage, Queue, QueueDepth, ReceivedMessage, SendFailure


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that could not be handled. One that was merely received too often has no reason."""

    body: str
    source_message_id: str
    receive_count: int
    reason: str | None = None
    detail: str | None = None


@dataclass(slots=True)
class _Stored:
    """A message and its loan: `receipt` is the latest one, `hidden_until` is when it ends."""

    id: str
    body: str
    sent_at: datetime
    hidden_until: float
    receipt: str = ""
    receive_count: int = 0


@dataclass(slots=True)
class MemoryQueue(Queue):
    """A queue for one process.

    Where SQS leaves open what happens, this does what is worse for the receiver: an old
    receipt deletes nothing once the message is lent out again, and an expired loan cannot
    be extended.

    Attributes:
        visibility_timeout: How long a received message stays hidden.
        max_receive_count: How often a message is lent out before it becomes a dead letter.
        monotonic: Seconds by which loans expire. With a clock that tests turn by hand, receive with `wait` zero.
        clock: Says when a message was sent.
        dead_letters: What the dead-letter queue holds, oldest first.
    """

    visibility_timeout: timedelta = timedelta(seconds=30)
    max_receive_count: int = 10
    monotonic: Callable[[], float] = time.monotonic
    clock: Clock = utc_now
    dead_letters: list[DeadLetter] = field(default_factory=list)
    _messages: dict[str, _Stored] = field(default_factory=dict)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @override
    async def send(self, messages: Sequence[OutgoingMessage]) -> list[SendFailure]:
        cut = cut_batches(messages)
        for message in itertools.chain.from_iterable(cut.batches):
            stored = _Stored(self._new_name("message"), message.body, self.clock(), hidden_until=self.monotonic())
            self._messages[stored.id] = stored
        self._changed.set()
        return cut.refused

    @override
    async def receive(self, *, max_messages: int, wait: timedelta) -> list[ReceivedMessage]:
        deadline = self.monotonic() + wait.total_seconds()
        while True:
            lent = self._lend(max_messages)
            patience = deadline - self.monotonic()
            if lent or patience <= 0:
                return lent
            await self._wait_for_change(min(patience, self._next_expiry()))

    @override
    async def delete(self, messages: Sequence[ReceivedMessage]) -> list[ReceivedMessage]:
        kept = [message for message in messages if message.id in self._messages and not self._is_current(message)]
        for message in messages:
            if message not in kept:
                self._messages.pop(message.id, None)
        return kept

    @override
    async def extend(self, messages: Sequence[ReceivedMessage], *, visibility: timedelta) -> list[ReceivedMessage]:
        return self._hide(messages, visibility)

    @override
    async def release(self, messages: Sequence[ReceivedMessage], *, after: timedelta) -> list[ReceivedMessage]:
        return self._hide(messages, after)

    @override
    async def dead_letter(self, message: ReceivedMessage, *, reason: str, detail: str) -> None:
        self.dead_letters.append(DeadLetter(message.body, message.id, message.receive_count, reason, detail))
        await self.delete([message])

    @override
    async def depth(self) -> QueueDepth:
        now = self.monotonic()
        visible = sum(stored.hidden_until <= now for stored in self._messages.values())
        return QueueDepth(visible=visible, in_flight=len(self._messages) - visible, delayed=0)

    @override
    async def check(self) -> None:
        """Return: what is in memory is always there."""

    def _lend(self, limit: int) -> list[ReceivedMessage]:
        now = self.monotonic()
        lent: list[ReceivedMessage] = []
        for stored in [stored for stored in self._messages.values() if stored.hidden_until <= now]:
            if stored.receive_count >= self.max_receive_count:
                del self._messages[stored.id]
                self.dead_letters.append(DeadLetter(stored.body, stored.id, stored.receive_count))
            elif len(lent) < limit:
                stored.receipt = self._new_name("receipt")
                stored.receive_count += 1
                stored.hidden_until = now + self.visibility_timeout.total_seconds()
                lent.append(
                    ReceivedMessage(stored.id, stored.body, stored.receipt, stored.receive_count, stored.sent_at)
                )
        return lent

    def _hide(self, messages: Sequence[ReceivedMessage], duration: timedelta) -> list[ReceivedMessage]:
        now = self.monotonic()
        refused: list[ReceivedMessage] = []
        for message in messages:
            if self._is_current(message) and self._messages[message.id].hidden_until > now:
                self._messages[message.id].hidden_until = now + duration.total_seconds()
            else:
                refused.append(message)
        self._changed.set()
        return refused

    def _is_current(self, message: ReceivedMessage) -> bool:
        stored = self._messages.get(message.id)
        return stored is not None and stored.receipt == message.receipt

    def _next_expiry(self) -> float:
        now = self.monotonic()
        return min((stored.hidden_until - now for stored in self._messages.values()), default=float("inf"))

    async def _wait_for_change(self, seconds: float) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    def _new_name(self, kind: str) -> str:
        return f"{kind}-{next(self._numbers)}"

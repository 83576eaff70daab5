"""A queue and a handler that do as they are told and remember what happened."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from typing_extensions import override

from shared.queue import OutgoingMessage, QueueUnavailable, ReceivedMessage
from shared.queue.memory import MemoryQueue
from worker.consumer import Consumer
from worker.outcomes import Completed, DeadLetter, DependencyUnavailable, Outcome
from worker.settings import WorkerSettings
from worker.stopping import Stop

VISIBILITY = timedelta(seconds=30)


class ObservedQueue(MemoryQueue):
    """The queue in memory, with a memory of the calls and a switch for their failures."""

    def __init__(self) -> None:
        super().__init__(visibility_timeout=VISIBILITY, max_receive_count=1000)
        self.receives: list[tuple[int, timedelta]] = []
        self.deleted: list[str] = []
        self.released: list[tuple[str, timedelta]] = []
        self.extended: list[tuple[str, timedelta]] = []
        self.broken: set[str] = set()
        self.before_receive: Callable[[], object] = lambda: None
        self.follow_ups_may_return = asyncio.Event()
        self.follow_ups_may_return.set()

    async def fill(self, *bodies: str, receive_count: int = 0) -> None:
        """Send messages that were received so often before."""
        await self.send([OutgoingMessage(id=str(number), body=body) for number, body in enumerate(bodies)])
        for stored in self._messages.values():
            if stored.body in bodies:
                stored.receive_count = receive_count

    @property
    def has_visible(self) -> bool:
        """Whether a receive would bring something."""
        return any(stored.hidden_until <= self.monotonic() for stored in self._messages.values())

    @override
    async def receive(self, *, max_messages: int, wait: timedelta) -> list[ReceivedMessage]:
        self.receives.append((max_messages, wait))
        self.before_receive()
        self._fail("receive")
        messages = await super().receive(max_messages=max_messages, wait=wait)
        if not wait:
            await self.follow_ups_may_return.wait()
        return messages

    @override
    async def delete(self, messages: Sequence[ReceivedMessage]) -> list[ReceivedMessage]:
        self._fail("delete")
        self.deleted += [message.body for message in messages]
        return await super().delete(messages)

    @override
    async def release(self, messages: Sequence[ReceivedMessage], *, after: timedelta) -> list[ReceivedMessage]:
        self.released += [(message.body, after) for message in messages]
        return await super().release(messages, after=after)

    @override
    async def extend(self, messages: Sequence[ReceivedMessage], *, visibility: timedelta) -> list[ReceivedMessage]:
        self.extended += [(message.body, visibility) for message in messages]
        self._fail("extend")
        return await super().extend(messages, visibility=visibility)

    def _fail(self, call: str) -> None:
        if call in self.broken:
            message = f"{call} is broken"
            raise QueueUnavailable(message)


class ObedientHandler:
    """Completes every message, unless its body is among the answers."""

    def __init__(self, stop: Stop) -> None:
        self.answers: dict[str, Outcome | BaseException] = {}
        self.batches: list[list[str]] = []
        self.given_up: list[tuple[str, str]] = []
        self.after_batch: Callable[[], object] = lambda: None
        self.before_probe: Callable[[], object] = lambda: None
        self.probe_failures = 0
        self.forgetful = False
        self.stop = stop

    async def handle(self, messages: Sequence[ReceivedMessage]) -> Mapping[str, Outcome]:
        bodies = [message.body for message in messages]
        self.batches.append(bodies)
        self.after_batch()
        for body in bodies:
            if isinstance(answer := self.answers.get(body), BaseException):
                raise answer
        if self.forgetful:
            return {}
        answers = {message.id: self.answers.get(message.body, Completed()) for message in messages}
        return {message_id: answer for message_id, answer in answers.items() if not isinstance(answer, BaseException)}

    async def give_up(self, message: ReceivedMessage, verdict: DeadLetter) -> None:
        self.given_up.append((message.body, verdict.reason))

    async def probe(self) -> None:
        self.before_probe()
        if self.probe_failures:
            self.probe_failures -= 1
            message = "still away"
            raise DependencyUnavailable(message)

    def stop_after(self, *bodies: str) -> None:
        """Stop as soon as all of these were handled, or tried to be."""
        self.after_batch = lambda: self.stop_if({body for batch in self.batches for body in batch} >= set(bodies))

    def stop_if(self, condition: object) -> None:
        """Stop if the condition holds; for the hooks of the doubles."""
        if condition:
            self.stop.request()


def make_consumer(queue: ObservedQueue, handler: ObedientHandler, **settings: Any) -> Consumer:
    """Return a consumer with short waits."""
    values: dict[str, Any] = {"poll_wait": timedelta(milliseconds=20), **settings}
    return Consumer(
        queue,
        handler,
        WorkerSettings.model_construct(**values),
        visibility_timeout=VISIBILITY,
        stop=handler.stop,
        beat=lambda: None,
    )

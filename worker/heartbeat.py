"""Keeps the messages in hand hidden from other consumers while they are being worked on."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from shared.queue import Queue, QueueUnavailable, ReceivedMessage

logger = structlog.get_logger(__name__)

# Every message in hand has at least two thirds of its time left, so two beats may fail before its loan ends.
BEATS_PER_VISIBILITY = 3


class Heartbeat:
    """Extends the loans of what is held, every third of the visibility timeout."""

    def __init__(self, queue: Queue, visibility_timeout: timedelta) -> None:
        """Hold nothing yet."""
        self._queue = queue
        self._visibility_timeout = visibility_timeout
        self._held: dict[str, ReceivedMessage] = {}
        self._extending = asyncio.Lock()

    def hold(self, messages: Iterable[ReceivedMessage]) -> None:
        """Extend these messages from now on."""
        self._held |= {message.receipt: message for message in messages}

    async def let_go(self, messages: Iterable[ReceivedMessage]) -> None:
        """Extend these messages no more; once this returns, no extension is under way either.

        One that reached the queue after the message was released would hide it again.
        """
        async with self._extending:
            for message in messages:
                self._held.pop(message.receipt, None)

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Beat for as long as the block runs."""
        task = asyncio.create_task(self._beat_forever(), name="heartbeat")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def beat(self) -> None:
        """Extend all that is held. A failure is logged: the next beat comes before the loan ends."""
        async with self._extending:
            if not (held := list(self._held.values())):
                return
            try:
                failed = await self._queue.extend(held, visibility=self._visibility_timeout)
            except QueueUnavailable as error:
                logger.warning("messages.not_extended", message_count=len(held), detail=str(error))
                return
        if failed:
            logger.warning("messages.not_extended", message_count=len(failed))

    async def _beat_forever(self) -> None:
        while True:
            await asyncio.sleep((self._visibility_timeout / BEATS_PER_VISIBILITY).total_seconds())
            try:
                await self.beat()
            except Exception:
                logger.exception("heartbeat.failed")

"""The consumer's receiving half: collects batches, backs off when the queue is away, never cancels a receive."""

import asyncio
import time
from datetime import timedelta

import structlog

from shared.queue import Queue, ReceivedMessage
from worker.health import Beat
from worker.heartbeat import Heartbeat
from worker.retry import outage_backoff
from worker.settings import WorkerSettings
from worker.stopping import Stop

logger = structlog.get_logger(__name__)

MAX_PER_RECEIVE = 10
AT_ONCE = timedelta(0)


class Collector:
    """Collects messages into batches. Every message it returns is held by the heartbeat.

    A receive whose answer is late is neither waited for nor cancelled: the queue may have lent
    out its messages already, and would keep them hidden. They come with a later batch.
    """

    def __init__(self, queue: Queue, heartbeat: Heartbeat, settings: WorkerSettings, stop: Stop, beat: Beat) -> None:
        """Prepare to collect; nothing is received yet."""
        self._queue = queue
        self._heartbeat = heartbeat
        self._settings = settings
        self._stop = stop
        self._beat = beat
        self._under_way: set[asyncio.Task[list[ReceivedMessage]]] = set()
        self._failure_count = 0
        self._resume_at = 0.0

    async def collect(self, room: int, *, busy: bool) -> list[ReceivedMessage]:
        """Return up to `room` messages, or none.

        One receive waits for the first message. What else is there is fetched by further ones side by side, which
        do not wait; the first message does not age for them longer than the collect window.

        Args:
            room: How many messages are welcome.
            busy: Whether there is work in hand, which is to be held up neither by an empty queue nor by a broken one.
        """
        if (pause := self._resume_at - time.monotonic()) > 0:
            if busy:
                return []
            await self._stop.pause(timedelta(seconds=pause))
        if self._stop.requested:
            return []
        window = self._settings.collect_window
        self._receive(MAX_PER_RECEIVE, room=room, wait=AT_ONCE if busy else self._settings.poll_wait)
        messages = await self._take(asyncio.FIRST_COMPLETED, within=window if busy else None)
        if messages and not self._stop.requested:
            self._receive(room, room=room - len(messages), wait=AT_ONCE)
            messages += await self._take(asyncio.ALL_COMPLETED, within=window)
        return messages

    async def drain(self) -> list[ReceivedMessage]:
        """Wait for the receives under way and return what they bring."""
        return await self._take(asyncio.ALL_COMPLETED)

    def _receive(self, wanted: int, *, room: int, wait: timedelta) -> None:
        """Start receives side by side for the wanted number of messages, if there is room for what they bring."""
        room -= MAX_PER_RECEIVE * len(self._under_way)
        for first in range(0, min(wanted, room), MAX_PER_RECEIVE):
            task = asyncio.create_task(self._receive_once(min(MAX_PER_RECEIVE, room - first), wait))
            self._under_way.add(task)

    async def _receive_once(self, max_messages: int, wait: timedelta) -> list[ReceivedMessage]:
        try:
            messages = await self._queue.receive(max_messages=max_messages, wait=wait)
        except Exception as error:  # noqa: BLE001 - whatever it was, work in hand goes on and a later receive may succeed
            self._failure_count += 1
            pause = outage_backoff(self._failure_count)
            self._resume_at = time.monotonic() + pause.total_seconds()
            logger.warning("receive.failed", detail=repr(error), retry_in=pause.total_seconds())
            return []
        finally:
            self._beat()
        self._failure_count = 0
        self._heartbeat.hold(messages)
        return messages

    async def _take(self, until: str, *, within: timedelta | None = None) -> list[ReceivedMessage]:
        """Wait for the first or for all of the receives under way, and return what those brought that are done."""
        if not self._under_way:
            return []
        seconds = None if within is None else within.total_seconds()
        done, self._under_way = await asyncio.wait(self._under_way, return_when=until, timeout=seconds)
        return [message for task in done for message in task.result()]

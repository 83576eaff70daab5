"""Receives messages, has them handled, settles them. Knows the queue, and nothing of what the messages mean."""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import chain
from typing import Protocol

import structlog

from shared.queue import Queue, QueueUnavailable, ReceivedMessage
from worker.collector import Collector
from worker.health import Beat
from worker.heartbeat import Heartbeat
from worker.outcomes import Completed, DeadLetter, DependencyUnavailable, Outcome, RetryLater, Unfinished
from worker.retry import outage_backoff
from worker.settings import WorkerSettings
from worker.stopping import Stop

logger = structlog.get_logger(__name__)

# The first two times a message is handled together with others. After that it is suspected of having killed a worker.
SUSPECT_FROM = 3
MAX_RECEIVE_COUNT = 6
# A suspect is hidden for so many visibility timeouts while it is tried, and twice as long each further time.
FIRST_TRIAL = 5
AT_ONCE = timedelta(0)
MAX_DETAIL_LENGTH = 500


class Handler(Protocol):
    """What to do with messages: knows what they mean, and nothing of the queue."""

    async def handle(self, messages: Sequence[ReceivedMessage]) -> Mapping[str, Outcome]:
        """Work on the messages, all or none of them, and return the outcome of each by its id.

        Raises:
            DependencyUnavailable: Nothing can be done now; no message is to blame.
            Exception: At least one of the messages cannot be handled. The consumer finds out which.
        """

    async def give_up(self, message: ReceivedMessage, verdict: DeadLetter) -> None:
        """Take note that the message becomes a dead letter.

        Raises:
            DependencyUnavailable: Not now.
        """

    async def probe(self) -> None:
        """Return if the handler could do its work now.

        Raises:
            DependencyUnavailable: It could not.
        """


class Consumer:
    """Works through the queue, batch by batch, until it is stopped.

    Only the consumer talks to the queue; the handler answers with outcomes. No exception of the
    handler or the queue ends the loop, and a message is deleted only when its work is committed.
    """

    def __init__(  # noqa: PLR0913 - those with a name of their own cannot be mixed up
        self,
        queue: Queue,
        handler: Handler,
        settings: WorkerSettings,
        *,
        visibility_timeout: timedelta,
        stop: Stop,
        beat: Beat,
    ) -> None:
        """Prepare a consumer; `run` makes it work.

        Args:
            queue: Where the messages are.
            handler: What to do with them.
            settings: How many at once, and how long to wait for them.
            visibility_timeout: How long the queue hides a message that was received.
            stop: Ends `run`, even before it began.
            beat: Called with every sign of progress.
        """
        self._queue = queue
        self._handler = handler
        self._settings = settings
        self._visibility_timeout = visibility_timeout
        self._stop = stop
        self._beat = beat
        self._heartbeat = Heartbeat(queue, visibility_timeout)
        self._collector = Collector(queue, self._heartbeat, settings, stop, beat)
        self._unfinished: list[ReceivedMessage] = []
        self._outage_count = 0

    async def run(self) -> None:
        """Consume until stopped; then finish what is being handled and hand the rest back."""
        async with self._heartbeat.beating():
            while not self._stop.requested:
                fresh = await self._collector.collect(self._room(), busy=bool(self._unfinished))
                in_hand, self._unfinished = [*self._unfinished, *fresh], []
                await self._work_through(in_hand)
            left_over = [*self._unfinished, *await self._collector.drain()]
            await self._settle((message, RetryLater(AT_ONCE)) for message in left_over)

    def _room(self) -> int:
        """Return how many messages are welcome.

        After an outage it is one: if the probe was too hopeful, only that one is received in vain once more.
        """
        return (1 if self._outage_count else self._settings.batch_size) - len(self._unfinished)

    async def _work_through(self, messages: Sequence[ReceivedMessage]) -> None:
        """Have all messages handled, together where that is safe, and settle them part by part.

        A part that fails is halved until what cannot be handled stands alone: one poisoned message
        among thirty costs eleven attempts at most, and the good ones all get through.
        """
        parts = deque(divide(messages))
        while parts:
            if self._stop.requested:
                await self._settle((message, RetryLater(AT_ONCE)) for message in chain(*parts))
                return
            part = parts.popleft()
            try:
                outcomes = await self._handle(part)
            except DependencyUnavailable as error:
                later = RetryLater(outage_backoff(self._outage_count + 1))
                await self._settle((message, later) for message in chain(part, *parts))
                await self._wait_for_dependency(error)
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, it is one of these messages
                logger.warning("batch.halved", message_count=len(part), detail=describe(error))
                half = len(part) // 2
                parts.extendleft([part[half:], part[:half]])
            else:
                self._outage_count = 0
                await self._settle(outcomes)
            finally:
                self._beat()

    async def _handle(self, part: Sequence[ReceivedMessage]) -> list[tuple[ReceivedMessage, Outcome]]:
        """Return the outcome of each message of the part. The failure of a message that is alone is its outcome.

        Raises:
            DependencyUnavailable: Nothing can be done now.
            Exception: Something is wrong with one of several messages.
        """
        message, *others = part
        outcomes: list[tuple[ReceivedMessage, Outcome]]
        if message.receive_count > MAX_RECEIVE_COUNT:
            detail = f"It was received {message.receive_count} times and never completed: it may kill the worker."
            outcomes = [(message, DeadLetter("received_too_often", detail))]
        else:
            try:
                if message.receive_count >= SUSPECT_FROM:
                    await self._hide_suspect(message)
                answer = await self._handler.handle(part)
                outcomes = [(message, answer[message.id]) for message in part]
            except DependencyUnavailable:
                raise
            except Exception as error:
                if others:
                    raise
                logger.exception("message.failed", message_id=message.id)
                outcomes = [(message, DeadLetter("handler_failed", describe(error)))]
        for given_up, outcome in outcomes:
            if isinstance(outcome, DeadLetter):
                await self._give_up(given_up, outcome)
        return outcomes

    async def _hide_suspect(self, message: ReceivedMessage) -> None:
        """Hide a message that may kill us for much longer than the others in hand.

        If it does, they are back and done before it returns, and two such messages seldom return
        together. Otherwise the others would meet it, or the next one, until they had been received
        too often themselves.
        """
        await self._heartbeat.let_go([message])
        visibility = self._visibility_timeout * FIRST_TRIAL * 2 ** (message.receive_count - SUSPECT_FROM)
        try:
            await self._queue.extend([message], visibility=visibility)
        except QueueUnavailable as error:
            logger.warning("messages.not_extended", message_count=1, detail=str(error))

    async def _give_up(self, message: ReceivedMessage, verdict: DeadLetter) -> None:
        """Tell the handler of a dead letter, before it becomes one: a crash in between repeats both."""
        logger.error("message.given_up", message_id=message.id, reason=verdict.reason, detail=verdict.detail)
        try:
            await self._handler.give_up(message, verdict)
        except DependencyUnavailable:
            raise
        except Exception:
            logger.exception("handler.failed", message_id=message.id)

    async def _settle(self, outcomes: Iterable[tuple[ReceivedMessage, Outcome]]) -> None:
        """Carry the outcomes out. What the queue does not take comes back and is harmless: its work is done."""
        completed: list[ReceivedMessage] = []
        released: defaultdict[timedelta, list[ReceivedMessage]] = defaultdict(list)
        dead: list[tuple[ReceivedMessage, DeadLetter]] = []
        for message, outcome in outcomes:
            match outcome:
                case Completed():
                    completed.append(message)
                case RetryLater(delay):
                    released[delay].append(message)
                case DeadLetter():
                    dead.append((message, outcome))
                case Unfinished():
                    self._unfinished.append(message)
        await self._heartbeat.let_go(chain(completed, *released.values(), (message for message, _ in dead)))
        try:
            if completed:
                note_unsettled("messages.not_deleted", await self._queue.delete(completed))
            for delay, messages in released.items():
                note_unsettled("messages.not_released", await self._queue.release(messages, after=delay))
            for message, verdict in dead:
                await self._queue.dead_letter(message, reason=verdict.reason, detail=verdict.detail)
                self._beat()
        except Exception as error:  # noqa: BLE001 - whatever the queue raises, the next batch is not to blame
            logger.warning("messages.not_settled", detail=repr(error))

    async def _wait_for_dependency(self, error: Exception) -> None:
        """Return when the handler can work again, or a stop is requested; receive nothing meanwhile."""
        while not self._stop.requested:
            self._outage_count += 1
            pause = outage_backoff(self._outage_count)
            logger.warning("dependency.unavailable", detail=describe(error), retry_in=pause.total_seconds())
            await self._stop.pause(pause)
            self._beat()
            try:
                await self._handler.probe()
            except Exception as still:  # noqa: BLE001 - no probe ends the loop
                error = still
            else:
                logger.info("dependency.recovered")
                return


def divide(messages: Iterable[ReceivedMessage]) -> list[list[ReceivedMessage]]:
    """Return the parts in which messages are handled: each suspect alone, then all others together.

    Whoever was received most often comes first. If innocent, it is done; after another death of the
    process it might count as received too often. The others can afford one more receive.
    """
    by_suspicion = sorted(messages, key=lambda message: message.receive_count, reverse=True)
    alone = [[message] for message in by_suspicion if message.receive_count >= SUSPECT_FROM]
    together = by_suspicion[len(alone) :]
    return [*alone, together] if together else alone


def describe(error: Exception) -> str:
    """Return what happened in one line. Further lines of an error may quote what people wrote."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"[:MAX_DETAIL_LENGTH]


def note_unsettled(event: str, messages: Sequence[ReceivedMessage]) -> None:
    """Log that the queue did not take some messages back or away; they return by themselves."""
    if messages:
        logger.warning(event, message_ids=[message.id for message in messages])

"""Writes down what came of messages: one statement at a time, for all that ended meanwhile."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence

import structlog

from worker.deliveries.repository import DeliveryRepository, Recorded, Result
from worker.failures import Blame, blame
from worker.retry import outage_backoff

logger = structlog.get_logger(__name__)


class Recorder:
    """Records the results of one channel. One that cannot be written is kept until its lease ends."""

    def __init__(self, channel: str, repository: DeliveryRepository, *, after_words: Callable[[], None]) -> None:
        """Prepare to record.

        Args:
            channel: For the log.
            repository: Where to write.
            after_words: Called when a contact point was disabled and there is word of it to be sent.
        """
        self._channel = channel
        self._repository = repository
        self._after_words = after_words
        self._writing = asyncio.Lock()
        self._waiting: list[Result] = []

    async def record(self, result: Result) -> None:
        """Return when the result is written, or when that is not possible any more.

        Whoever comes while a statement is under way waits for the next one, which takes all of them.
        """
        batch = self._waiting
        batch.append(result)
        async with self._writing:
            if batch is self._waiting:
                self._waiting = []
                await self._write(batch)

    async def _write(self, results: Sequence[Result]) -> None:
        failure_count = 0
        while results:
            try:
                recorded = await self._repository.record(results)
            except Exception as error:  # noqa: BLE001 - whatever it is, what was sent must not be forgotten for it
                if blame(error) is Blame.DATA:
                    await self._write_apart(results, error)
                    return
                failure_count += 1
                pause = outage_backoff(failure_count)
                resume_at = time.monotonic() + pause.total_seconds()
                results = [result for result in results if result.claim.lease_ends_at > resume_at]
                logger.warning(
                    "deliveries.not_recorded",
                    channel=self._channel,
                    kept_count=len(results),
                    detail=repr(error).partition("\n")[0],
                )
                await asyncio.sleep(pause.total_seconds())
            else:
                self._note(results, recorded)
                return

    def _note(self, results: Sequence[Result], recorded: Recorded) -> None:
        logger.info(
            "deliveries.recorded",
            channel=self._channel,
            late_count=len(results) - recorded.recorded_count,
            disabled_count=recorded.disabled_count,
            **Counter(result.outcome.result.value for result in results),
        )
        if recorded.word_count:
            self._after_words()

    async def _write_apart(self, results: Sequence[Result], error: Exception) -> None:
        """Write results one by one, because one of them cannot be; that one comes back when its lease ends."""
        if len(results) > 1:
            for result in results:
                await self._write([result])
            return
        logger.error("delivery.not_recorded", delivery_id=str(results[0].claim.id), detail=repr(error))

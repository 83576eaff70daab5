"""One channel's way out: claims what is due, sends it, has the result recorded. A slow channel delays only itself."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from shared.channel import Channel, DeliveryFailed
from shared.models import AttemptResult
from worker.deliveries.composer import Composer
from worker.deliveries.endpoints import Endpoints
from worker.deliveries.recorder import Recorder
from worker.deliveries.repository import Claim, DeliveryRepository, Result
from worker.deliveries.schedule import Outcome, decide, outcome_of
from worker.health import Beat
from worker.retry import outage_backoff
from worker.stopping import Stop

logger = structlog.get_logger(__name__)

# How long to wait for more room when there is only a little: claims of one row each would cost more than the messages.
LINGER = timedelta(milliseconds=20)
DEFER_INTERVAL = timedelta(seconds=1)


class Lane:
    """Sends the deliveries of one channel until it is stopped.

    No transaction is open while a provider thinks, and nothing a provider does ends the lane. A place is taken from the
    claim until the result is written, so that a crash repeats no more messages than there are places.
    """

    def __init__(  # noqa: PLR0913 - those with a name of their own cannot be mixed up
        self,
        channel: Channel,
        repository: DeliveryRepository,
        composer: Composer,
        *,
        concurrency: int,
        endpoint_concurrency: int,
        send_timeout: timedelta,
        poll_interval: timedelta,
        stop: Stop,
        beat: Beat,
        after_words: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare a lane; `run` makes it work.

        Args:
            channel: Who sends.
            repository: The channel's deliveries.
            composer: Makes messages of them.
            concurrency: How many at the same time.
            endpoint_concurrency: How many of them to one server.
            send_timeout: How long one may take.
            poll_interval: How often to look for what nobody told us of.
            stop: Ends `run`.
            beat: Called with every sign of progress.
            after_words: Called when other lanes have got something to send by what this one did.
        """
        self._channel = channel
        self._repository = repository
        self._composer = composer
        self._concurrency = concurrency
        # So much room is worth a claim.
        self._worthwhile = max(1, concurrency // 4)
        self._send_timeout = send_timeout
        self._poll_interval = poll_interval
        self._stop = stop
        self._beat = beat
        self._recorder = Recorder(channel.name, repository, after_words=after_words)
        self._endpoints = Endpoints(endpoint_concurrency)
        self._in_hand = 0
        self._woken = asyncio.Event()
        self._defer_at = 0.0

    def wake(self) -> None:
        """Look for deliveries now rather than at the next poll."""
        self._woken.set()

    async def run(self) -> None:
        """Send until stopped; then finish what is in hand."""
        outage_count = 0
        async with asyncio.TaskGroup() as sends:
            while not self._stop.requested:
                self._woken.clear()
                try:
                    found = await self._send_some(sends)
                except Exception as error:
                    outage_count += 1
                    pause = outage_backoff(outage_count)
                    is_outage = isinstance(error, (SQLAlchemyError, OSError, TimeoutError))
                    logger.warning(
                        "deliveries.not_claimed",
                        channel=self._channel.name,
                        retry_in=pause.total_seconds(),
                        detail=repr(error).partition("\n")[0],
                        exc_info=not is_outage,
                    )
                    await self._stop.pause(pause)
                else:
                    outage_count = 0
                    if not found:
                        await self._pause(self._poll_interval)
                self._beat()

    async def _send_some(self, sends: asyncio.TaskGroup) -> bool:
        """Claim as much as there is room for and begin to send it; return whether there may be more."""
        if self._room < self._worthwhile:
            await self._pause(LINGER if self._room else self._poll_interval)
        if not self._room or self._stop.requested:
            return True
        await self._defer()
        claims, ended_count = await self._repository.claim(self._room, self._endpoints.rooms())
        if ended_count:
            logger.info("deliveries.ended", channel=self._channel.name, delivery_count=ended_count)
        for claim in claims:
            self._in_hand += 1
            if claim.endpoint is not None:
                self._endpoints.begin(claim.endpoint)
            sends.create_task(self._deliver(claim))
        return bool(claims or ended_count)

    async def _deliver(self, claim: Claim) -> None:
        try:
            outcome = await self._attempt(claim)
            if claim.endpoint is not None and self._endpoints.end(claim.endpoint, outcome):
                self._woken.set()
            verdict = decide(
                outcome,
                channel=self._channel.name,
                failure_count=claim.failure_count,
                repeats_unknown=self._channel.repeats_unknown,
            )
            if outcome.result is not AttemptResult.DELIVERED:
                logger.info(
                    "delivery.attempted",
                    channel=self._channel.name,
                    tenant_id=str(claim.tenant_id),
                    delivery_id=str(claim.id),
                    number=claim.number,
                    result=outcome.result.value,
                    detail=outcome.detail,
                    status=verdict.status.value,
                    retry_in=round(verdict.wait.total_seconds(), 1),
                )
            await self._recorder.record(Result(claim, outcome, verdict))
        finally:
            self._in_hand -= 1
            if self._room == self._worthwhile:
                self._woken.set()

    async def _attempt(self, claim: Claim) -> Outcome:
        """Try to send, and return what came of it, whatever that is."""
        try:
            message = self._composer.compose(claim)
        except Exception:
            logger.exception("delivery.not_composed", channel=self._channel.name, delivery_id=str(claim.id))
            detail = "The message could not be composed; this is our fault."
            return Outcome(result=AttemptResult.TEMPORARY_FAILURE, detail=detail, is_bug=True)
        try:
            async with asyncio.timeout(self._send_timeout.total_seconds()):
                receipt = await self._channel.send(message)
        except DeliveryFailed as failure:
            return outcome_of(failure)
        except TimeoutError:
            detail = f"No answer within {self._send_timeout.total_seconds():g} s."
            return Outcome(result=AttemptResult.OUTCOME_UNKNOWN, detail=detail)
        except Exception:
            logger.exception("channel.failed", channel=self._channel.name, delivery_id=str(claim.id))
            detail = "The channel failed in an unexpected way; this is our fault."
            return Outcome(result=AttemptResult.TEMPORARY_FAILURE, detail=detail, is_bug=True)
        return Outcome(result=AttemptResult.DELIVERED, receipt=receipt)

    async def _defer(self) -> None:
        """Put off what is due at servers that get nothing for a while, now and then."""
        now = asyncio.get_running_loop().time()
        pauses: Mapping[str, timedelta] = self._endpoints.pauses() if now >= self._defer_at else {}
        if not pauses:
            return
        self._defer_at = now + DEFER_INTERVAL.total_seconds()
        if count := await self._repository.defer(pauses):
            logger.info(
                "deliveries.deferred", channel=self._channel.name, delivery_count=count, endpoint_count=len(pauses)
            )

    @property
    def _room(self) -> int:
        return self._concurrency - self._in_hand

    async def _pause(self, longest: timedelta) -> None:
        """Sleep until woken, or for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(longest.total_seconds()):
                await self._woken.wait()

"""Builds the worker, runs it, closes it."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.db import create_engine
from shared.logging import configure_logging
from shared.queue import QueueMisconfigured, QueueUnavailable
from shared.queue.sqs import SqsConfig, open_sqs
from shared.roles import WORKER, has_role
from shared.schema import current_revision, head_revision, is_behind
from shared.settings import SettingsInvalid
from worker.consumer import Consumer
from worker.fanout import FanOut
from worker.health import Beat, Watchdog
from worker.housekeeper import Housekeeper
from worker.reconciler import Reconciler
from worker.retry import outage_backoff
from worker.settings import ContradictorySettings, Settings
from worker.stopping import Stop

logger = structlog.get_logger(__name__)


class CannotStart(Exception):
    """Something is set up wrongly, and waiting would not change it. The text says what to do."""


def main(stop: Stop) -> int:
    """Run the worker until it is asked to stop; return the exit status: 0 after an orderly stop, else 1."""
    try:
        settings = Settings.from_environment()
    except (SettingsInvalid, ContradictorySettings) as error:
        sys.stderr.write(f"The worker cannot start with these settings.\n{error}\n")
        return 1
    configure_logging(settings.log)
    try:
        return asyncio.run(run(settings, stop))
    except CannotStart as error:
        logger.critical("worker.refused", detail=str(error))
        return 1


async def run(settings: Settings, stop: Stop) -> int:
    """Start, work until the stop is requested, and close; what is not done by the end of the grace period is given up.

    Nothing is lost then: what was committed stays, and the messages in hand come back.
    """
    stop.attach()
    work = asyncio.create_task(_work(settings, stop), name="work")
    stop_request = asyncio.create_task(stop.wait(), name="stop request")
    await asyncio.wait([work, stop_request], return_when=asyncio.FIRST_COMPLETED)
    if not work.done():
        logger.info("worker.stopping")
        await asyncio.wait([work], timeout=settings.worker.grace_period.total_seconds())
    stop_request.cancel()
    if not work.done():
        logger.error("worker.stop_forced", grace_period=settings.worker.grace_period.total_seconds())
        work.cancel()
        await asyncio.wait([work])
        return 1
    await work
    logger.info("worker.stopped")
    return 0


async def _work(settings: Settings, stop: Stop) -> None:
    """Open what the worker needs, wait until it is there, and run the loops until they end."""
    async with AsyncExitStack() as stack:
        watchdog = Watchdog(settings.worker.health_file, stall_timeout=settings.worker.stall_timeout)
        await stack.enter_async_context(watchdog.watching())
        engine = create_engine(settings.database, application_name="worker")
        stack.push_async_callback(engine.dispose)
        queue = await stack.enter_async_context(open_sqs(SqsConfig.from_settings(settings.queue)))
        beat = watchdog.watch("consumer")
        await _wait_until_ready("queue", queue.check, stop, beat)
        await _wait_until_ready("database", lambda: check_schema(engine), stop, beat)
        if stop.requested:
            return
        logger.info("worker.started", queue=settings.queue.queue_name)
        fan_out = FanOut(
            engine,
            chunk_size=settings.worker.chunk_size,
            transaction_timeout=settings.database.transaction_timeout,
        )
        consumer = Consumer(
            queue,
            fan_out,
            settings.worker,
            visibility_timeout=settings.queue.visibility_timeout,
            stop=stop,
            beat=beat,
        )
        reconciler = Reconciler(engine, queue, settings.worker, stop=stop, beat=watchdog.watch("reconciler"))
        housekeeper = Housekeeper(
            engine, interval=settings.worker.housekeeping_interval, stop=stop, beat=watchdog.watch("housekeeper")
        )
        # None ends before the stop, unless by a bug; then the process ends too, and is started again.
        async with asyncio.TaskGroup() as loops:
            loops.create_task(consumer.run(), name="consumer")
            loops.create_task(reconciler.run(), name="reconciler")
            loops.create_task(housekeeper.run(), name="housekeeper")


async def check_schema(engine: AsyncEngine) -> None:
    """Return if the database has every migration this code needs, and shows the worker all tenants.

    Raises:
        CannotStart: It lacks one, or does not.
    """
    revision = await current_revision(engine)
    if is_behind(revision):
        message = f"The database is at revision {revision}, {head_revision()} is needed. Run `notify migrate`."
        raise CannotStart(message)
    # Without it every event would be out of sight, and its message a dead letter.
    if not await has_role(engine, WORKER):
        message = f"The worker's database login is no member of {WORKER}. Run `notify roles grant --worker LOGIN`."
        raise CannotStart(message)


async def _wait_until_ready(dependency: str, check: Callable[[], Awaitable[None]], stop: Stop, beat: Beat) -> None:
    """Return when the check passes or a stop is requested. What is away may come; to die would not bring it sooner.

    Raises:
        CannotStart: The dependency is there, but not as we need it.
    """
    attempt = 0
    while not stop.requested:
        try:
            await check()
        except QueueMisconfigured as error:
            raise CannotStart(str(error)) from error
        except (QueueUnavailable, SQLAlchemyError, OSError) as error:
            attempt += 1
            pause = outage_backoff(attempt)
            detail = str(error).partition("\n")[0]
            logger.warning(
                "dependency.unavailable", dependency=dependency, detail=detail, retry_in=pause.total_seconds()
            )
            await stop.pause(pause)
            beat()
        else:
            return

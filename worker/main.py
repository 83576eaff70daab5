"""Builds the worker, runs it, closes it."""

import asyncio
import sys
from argparse import ArgumentParser
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import AsyncExitStack
from enum import StrEnum
from typing import Any

import structlog
import uvloop
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.channels import Channels, names_on_offer, open_channels
from shared.db import create_engine
from shared.encryption import build_cipher
from shared.logging import configure_logging
from shared.queue import Queue, QueueMisconfigured, QueueUnavailable
from shared.queue.sqs import SqsConfig, open_sqs
from shared.roles import WORKER, has_role
from shared.schema import current_revision, head_revision, is_behind
from shared.settings import SettingsInvalid
from worker.consumer import Consumer
from worker.deliveries.dispatcher import Dispatcher
from worker.deliveries.repository import PLANNER
from worker.fanout import FanOut
from worker.health import Watchdog
from worker.housekeeper import Housekeeper
from worker.reconciler import Reconciler
from worker.retry import outage_backoff
from worker.settings import ContradictorySettings, Settings
from worker.stopping import Stop

logger = structlog.get_logger(__name__)


class CannotStart(Exception):
    """Something is set up wrongly, and waiting would not change it. The text says what to do."""


class Part(StrEnum):
    """Half of the worker; each half can run alone, so that the two scale apart."""

    FANOUT = "fanout"
    DELIVERIES = "deliveries"


def main(stop: Stop, arguments: Sequence[str]) -> int:
    """Run the worker until it is asked to stop; return the exit status: 0 after an orderly stop, else 1."""
    parts = _parse(arguments)
    try:
        settings = Settings.from_environment()
    except (SettingsInvalid, ContradictorySettings) as error:
        sys.stderr.write(f"The worker cannot start with these settings.\n{error}\n")
        return 1
    configure_logging(settings.log)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(run(settings, parts, stop))
    except CannotStart as error:
        logger.critical("worker.refused", detail=str(error))
        return 1


def _parse(arguments: Sequence[str]) -> Collection[Part]:
    parser = ArgumentParser(prog="python -m worker", description="Tells subscribers of events, and sends deliveries.")
    parser.add_argument("--only", type=Part, choices=list(Part), help="run one half, so that the two scale apart")
    only: Part | None = parser.parse_args(arguments).only
    return list(Part) if only is None else [only]


async def run(settings: Settings, parts: Collection[Part], stop: Stop) -> int:
    """Start, work until the stop is requested, and close; what is not done by the end of the grace period is given up.

    Nothing is lost then: what was committed stays, and the messages in hand come back.
    """
    stop.attach()
    work = asyncio.create_task(_work(settings, parts, stop), name="work")
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


async def _work(settings: Settings, parts: Collection[Part], stop: Stop) -> None:
    """Open what the worker needs, wait until it is there, and run the loops until they end.

    Raises:
        CannotStart: Something is set up wrongly.
    """
    if Part.FANOUT not in parts and not names_on_offer(settings.channels):
        message = "No channel is on offer, so there is nothing to deliver; docs/settings.md says what each needs."
        raise CannotStart(message)
    async with AsyncExitStack() as stack:
        watchdog = Watchdog(settings.worker.health_file, stall_timeout=settings.worker.stall_timeout)
        await stack.enter_async_context(watchdog.watching())
        engine = create_engine(settings.database, application_name="worker")
        stack.push_async_callback(engine.dispose)
        queue: Queue | None = None
        if Part.FANOUT in parts:
            sqs = await stack.enter_async_context(open_sqs(SqsConfig.from_settings(settings.queue)))
            await _wait_until_ready("queue", sqs.check, stop, watchdog)
            queue = sqs
        await _wait_until_ready("database", lambda: check_schema(engine), stop, watchdog)
        if stop.requested:
            return
        dispatcher: Dispatcher | None = None
        if Part.DELIVERIES in parts:
            channels = await stack.enter_async_context(open_channels(settings.channels))
            own_engine = create_engine(settings.database, application_name="worker: deliveries", planner=PLANNER)
            stack.push_async_callback(own_engine.dispose)
            dispatcher = _build_dispatcher(settings, own_engine, channels, stop, watchdog)
        # None ends before the stop, unless by a bug; then the process ends too, and is started again.
        async with asyncio.TaskGroup() as loops:
            logger.info(
                "worker.started",
                parts=[part.value for part in parts],
                channels=list(names_on_offer(settings.channels)),
            )
            if dispatcher is not None:
                loops.create_task(dispatcher.run(), name="dispatcher")
            if queue is not None:
                after_deliveries = dispatcher.wake if dispatcher else lambda: None
                for name, loop in _build_fan_out(settings, engine, queue, stop, watchdog, after_deliveries).items():
                    loops.create_task(loop, name=name)


def _build_fan_out(  # noqa: PLR0913, PLR0917 - all that it is built from
    settings: Settings,
    engine: AsyncEngine,
    queue: Queue,
    stop: Stop,
    watchdog: Watchdog,
    after_deliveries: Callable[[], None],
) -> dict[str, Coroutine[Any, Any, None]]:
    """Return the loops that work through the queue and keep what they leave in order."""
    fan_out = FanOut(
        engine,
        chunk_size=settings.worker.chunk_size,
        transaction_timeout=settings.database.transaction_timeout,
        channels=names_on_offer(settings.channels),
        expire_after=settings.delivery.expire_after,
        after_deliveries=after_deliveries,
    )
    consumer = Consumer(
        queue,
        fan_out,
        settings.worker,
        visibility_timeout=settings.queue.visibility_timeout,
        stop=stop,
        beat=watchdog.watch("consumer"),
    )
    reconciler = Reconciler(engine, queue, settings.worker, stop=stop, beat=watchdog.watch("reconciler"))
    housekeeper = Housekeeper(
        engine, interval=settings.worker.housekeeping_interval, stop=stop, beat=watchdog.watch("housekeeper")
    )
    return {"consumer": consumer.run(), "reconciler": reconciler.run(), "housekeeper": housekeeper.run()}


def _build_dispatcher(
    settings: Settings, engine: AsyncEngine, channels: Channels, stop: Stop, watchdog: Watchdog
) -> Dispatcher | None:
    """Return what sends deliveries, None where no channel is on offer."""
    if settings.encryption is None:
        return None
    cipher = build_cipher(settings.encryption)
    return Dispatcher(
        engine, channels, cipher, settings.delivery, public=settings.public, stop=stop, watch=watchdog.watch
    )


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


async def _wait_until_ready(
    dependency: str, check: Callable[[], Awaitable[None]], stop: Stop, watchdog: Watchdog
) -> None:
    """Return when the check passes or a stop is requested. What is away may come; to die would not bring it sooner.

    Raises:
        CannotStart: The dependency is there, but not as we need it.
    """
    attempt = 0
    beat = watchdog.watch(dependency)
    try:
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
    finally:
        watchdog.forget(dependency)

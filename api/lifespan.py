"""What a process opens when it starts and closes when it stops."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

import structlog
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from api.health.service import Readiness
from api.relay import Relay
from api.settings import Settings
from shared.channels import Channels, ChannelSettings
from shared.db import create_engine, create_sessions
from shared.encryption import Cipher, build_cipher
from shared.queue.ports import Queue, QueueMisconfigured, QueueUnavailable
from shared.queue.sqs import SqsConfig, open_sqs
from shared.roles import is_subject_to_policies
from shared.settings import QueueSettings
from shared.unsubscribe import PublicSettings

logger = structlog.get_logger(__name__)

OpenQueue: TypeAlias = Callable[[QueueSettings], AbstractAsyncContextManager[Queue]]
OpenChannels: TypeAlias = Callable[[ChannelSettings], AbstractAsyncContextManager[Channels]]


@dataclass(frozen=True, slots=True)
class Runtime:
    """What the endpoints work with."""

    sessions: async_sessionmaker[AsyncSession]
    relay: Relay
    readiness: Readiness
    channels: Channels
    cipher: Cipher
    public: PublicSettings


def open_queue(settings: QueueSettings) -> AbstractAsyncContextManager[Queue]:
    """Open the SQS queue that the settings name."""
    return open_sqs(SqsConfig.from_settings(settings))


@asynccontextmanager
async def run_services(
    app: FastAPI, settings: Settings, open_queue: OpenQueue, open_channels: OpenChannels
) -> AsyncIterator[None]:
    """Open the database, the queue and the channels, keep the relay running, and close all of it in order.

    Neither the database nor the queue needs to be there: requests wait in the outbox for
    the queue, and get a 503 without the database; `/readyz` says which one is away.
    """
    engine = create_engine(settings.database, application_name="api")
    try:
        async with open_queue(settings.queue) as queue, open_channels(settings.channels) as channels:
            sessions = create_sessions(engine)
            relay = Relay(sessions, queue, settings.relay)
            readiness = Readiness(engine, queue)
            app.state.runtime = Runtime(
                sessions, relay, readiness, channels, build_cipher(settings.encryption), settings.public
            )
            relaying = asyncio.create_task(relay.run())
            checking = asyncio.create_task(_report_queue(queue))
            looking = asyncio.create_task(_report_login(engine))
            try:
                yield
            finally:
                readiness.draining = True
                checking.cancel()
                looking.cancel()
                relay.stop()
                await asyncio.wait([relaying, checking, looking])
    finally:
        await engine.dispose()


async def _report_login(engine: AsyncEngine) -> None:
    """Say at the start, loudly, when the database would show any query everything."""
    try:
        if not await is_subject_to_policies(engine):
            logger.error("database.unprotected", detail="This login skips row-level security: `notify roles grant`.")
    except (SQLAlchemyError, OSError) as error:
        logger.warning("database.unchecked", detail=str(error))


async def _report_queue(queue: Queue) -> None:
    """Say at the start, loudly, when the queue is not as it should be."""
    try:
        await queue.check()
    except QueueMisconfigured as error:
        logger.error("queue.misconfigured", detail=str(error))  # noqa: TRY400 - what to do is in the text
    except QueueUnavailable as error:
        logger.warning("queue.unavailable", detail=str(error))

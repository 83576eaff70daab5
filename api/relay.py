"""The relay: takes events that were committed but not published yet to the queue.

Every api replica runs one. They share the work by claiming rows, so none of them is special
and the death of one costs the others nothing but a lease.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.queue.envelope import Envelope
from shared.queue.ports import OutgoingMessage, Queue, QueueUnavailable, SendFailure
from shared.roles import BECOME_RELAY
from shared.settings import Duration

logger = structlog.get_logger(__name__)

SENDER_FAULTS_UNTIL_QUARANTINE = 3
FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(seconds=15)
# How long to try to give claims back. When that fails they end by themselves.
RELEASE_TIMEOUT = timedelta(seconds=1)

# By state, never by "id greater than the last one seen": a transaction that began earlier may commit
# later, and its lower id would be lost. Locked rows belong to another relay and are skipped.
CLAIM = text("""
    WITH claimed AS MATERIALIZED (
        SELECT tenant_id, id
          FROM events
         WHERE published_at IS NULL AND quarantined_at IS NULL
           AND (claimed_until IS NULL OR claimed_until < now())
         ORDER BY id
         LIMIT :batch_size
           FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE events
       SET claimed_until = now() + :lease
      FROM claimed
     WHERE (events.tenant_id, events.id) = (claimed.tenant_id, claimed.id)
    RETURNING events.tenant_id, events.id, event_type, scenario_id, occurred_at
""")

# A row that is locked here is in the hands of a worker, whose fan-out marks it as published itself:
# the relay does not wait for that.
MARK_PUBLISHED = text("""
    WITH sent AS MATERIALIZED (
        SELECT tenant_id, id
          FROM events
          JOIN unnest(CAST(:tenant_ids AS uuid[]), CAST(:ids AS uuid[])) AS taken (tenant_id, id)
         USING (tenant_id, id)
         WHERE published_at IS NULL
           FOR NO KEY UPDATE OF events SKIP LOCKED
    )
    UPDATE events
       SET published_at = now(), claimed_until = NULL, publish_error = NULL
      FROM sent
     WHERE (events.tenant_id, events.id) = (sent.tenant_id, sent.id)
""")

MARK_FAILED = text("""
    UPDATE events
       SET publish_error = failed.error,
           claimed_until = now() + :pause,
           refusal_count = refusal_count + failed.fault,
           quarantined_at = CASE WHEN refusal_count + failed.fault >= :quarantine_after THEN now() END
      FROM unnest(
               CAST(:tenant_ids AS uuid[]), CAST(:ids AS uuid[]), CAST(:errors AS text[]), CAST(:faults AS int[])
           ) AS failed (tenant_id, id, error, fault)
     WHERE (events.tenant_id, events.id) = (failed.tenant_id, failed.id) AND published_at IS NULL
""")

RELEASE = text("""
    UPDATE events
       SET claimed_until = NULL
      FROM unnest(CAST(:tenant_ids AS uuid[]), CAST(:ids AS uuid[])) AS unsent (tenant_id, id)
     WHERE (events.tenant_id, events.id) = (unsent.tenant_id, unsent.id) AND published_at IS NULL
""")


class RelaySettings(BaseSettings):
    """How events get from the database to the queue."""

    model_config = SettingsConfigDict(env_prefix="RELAY_")

    batch_size: int = Field(default=100, ge=1, le=1000, description="Events claimed and sent together.")
    poll_interval: Duration = Field(
        default=timedelta(seconds=1),
        description="How often to look for events of replicas that died; own commits are sent at once.",
    )
    lease: Duration = Field(
        default=timedelta(seconds=30), description="How long claimed events are left alone by the other replicas."
    )
    drain_timeout: Duration = Field(
        default=timedelta(seconds=5), description="How long a stopping replica goes on sending what is committed."
    )


@dataclass(frozen=True, slots=True)
class ClaimedEvent:
    """An event this relay may send until its lease ends."""

    tenant_id: UUID
    id: UUID
    event_type: str
    scenario_id: UUID
    occurred_at: datetime

    def to_message(self) -> OutgoingMessage:
        """Return the message that tells of this event; its group is the tenant, for fair queues."""
        envelope = Envelope(
            id=self.id,
            tenant_id=self.tenant_id,
            type=self.event_type,
            subject=self.scenario_id,
            occurred_at=self.occurred_at,
        )
        return OutgoingMessage(id=str(self.id), body=envelope.to_json(), group=str(self.tenant_id))


class Relay:
    """Sends unpublished events to the queue until it is stopped; a crash anywhere sends twice at worst."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], queue: Queue, settings: RelaySettings) -> None:
        """Prepare a relay; `run` makes it work."""
        self._sessions = sessions
        self._queue = queue
        self._settings = settings
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()

    def wake(self) -> None:
        """Look for events now rather than at the next poll."""
        self._woken.set()

    def stop(self) -> None:
        """Make `run` send what is committed, within the drain timeout, and return. Safe to call twice."""
        self._stopping.set()
        self._woken.set()

    async def run(self) -> None:
        """Publish events until stopped. No failure ends the loop: what was not sent stays in the outbox."""
        publishing = asyncio.create_task(self._publish_until_stopped())
        try:
            await self._stopping.wait()
            # Whatever hangs by then, a call to the queue or to the database, does not hold the process.
            async with asyncio.timeout(self._settings.drain_timeout.total_seconds()):
                await publishing
        except TimeoutError:
            # Another replica or the next start sends the rest.
            logger.warning("relay.drain_abandoned")
        finally:
            publishing.cancel()

    async def _publish_until_stopped(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            self._woken.clear()
            try:
                sent_all = await self.publish_batch()
            except Exception as error:
                # The queue or the database is away, as a rule; anything else is a bug, and its traceback tells.
                is_outage = isinstance(error, (QueueUnavailable, SQLAlchemyError, OSError))
                logger.warning(
                    "relay.failed", retry_in=pause.total_seconds(), error=repr(error), exc_info=not is_outage
                )
                # Only a stop ends the pause: a burst of commits must not become a burst of failing calls.
                await _wait(self._stopping, pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            if sent_all:
                await _wait(self._woken, self._settings.poll_interval)
        await self._drain()

    async def publish_batch(self) -> bool:
        """Claim events, send them, record how it went; return whether none were left to claim.

        No transaction is open while the queue is called.

        Raises:
            QueueUnavailable: The queue took none of them; the claims are given back.
        """
        events = await self._claim()
        if not events:
            return True
        try:
            failures = await self._queue.send([event.to_message() for event in events])
        except BaseException:
            await self._release(events)
            raise
        by_id = {str(event.id): event for event in events}
        refused = [(by_id.pop(failure.id), failure) for failure in failures]
        await self._execute(MARK_PUBLISHED, **_keys(list(by_id.values())))
        if refused:
            await self._record_failures(refused)
        logger.info("events.published", event_count=len(by_id), refused_count=len(refused))
        return len(events) < self._settings.batch_size

    async def _claim(self) -> list[ClaimedEvent]:
        async with self._transaction() as session:
            rows = await session.execute(
                CLAIM, {"batch_size": self._settings.batch_size, "lease": self._settings.lease}
            )
            return [ClaimedEvent(*row) for row in rows]

    async def _record_failures(self, refused: Sequence[tuple[ClaimedEvent, SendFailure]]) -> None:
        for event, failure in refused:
            logger.error("event.refused", event_id=str(event.id), code=failure.code, sender_fault=failure.sender_fault)
        await self._execute(
            MARK_FAILED,
            **_keys([event for event, _ in refused]),
            errors=[f"{failure.code}: {failure.detail}" for _, failure in refused],
            faults=[int(failure.sender_fault) for _, failure in refused],
            pause=LONGEST_PAUSE,
            quarantine_after=SENDER_FAULTS_UNTIL_QUARANTINE,
        )

    async def _drain(self) -> None:
        try:
            while not await self.publish_batch():
                pass
        except Exception:
            # Whatever it is, another replica or the next start sends the rest.
            logger.warning("relay.drain_abandoned", exc_info=True)

    async def _release(self, events: Sequence[ClaimedEvent]) -> None:
        with suppress(SQLAlchemyError, OSError):
            async with asyncio.timeout(RELEASE_TIMEOUT.total_seconds()):
                await self._execute(RELEASE, **_keys(events))

    async def _execute(self, statement: Any, **parameters: object) -> None:
        async with self._transaction() as session:
            await session.execute(statement, parameters)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncSession]:
        """Open a transaction that reaches the outbox of all tenants, and nothing else."""
        async with self._sessions.begin() as session:
            await session.execute(BECOME_RELAY)
            yield session


def _keys(events: Sequence[ClaimedEvent]) -> dict[str, list[UUID]]:
    return {"tenant_ids": [event.tenant_id for event in events], "ids": [event.id for event in events]}


async def _wait(event: asyncio.Event, longest: timedelta) -> None:
    """Return when the event is set, or after the longest wait."""
    try:
        async with asyncio.timeout(longest.total_seconds()):
            await event.wait()
    except TimeoutError:
        pass

"""From events to notifications and deliveries: tells every subscriber of a batch of events, in one statement.

The statement is `fanout.sql`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.queue import Envelope, MalformedEnvelope, ReceivedMessage, parse_envelope
from worker.failures import Blame, blame
from worker.outcomes import Completed, DeadLetter, DependencyUnavailable, Outcome, Unfinished

logger = structlog.get_logger(__name__)

FAN_OUT = text(Path(__file__).with_name("fanout.sql").read_text())

# Chunks are read from indexes in their order. A planner that knows nothing of a new table yet would rather collect and
# sort the whole rest of the audience for each chunk.
KEEP_INDEX_ORDER = text("SET LOCAL enable_bitmapscan = off")

FIND_TYPES = text("""
    SELECT tenant_id, id, event_type
      FROM events
      JOIN unnest(CAST(:tenant_ids AS uuid[]), CAST(:ids AS uuid[])) AS named (tenant_id, id) USING (tenant_id, id)
""")

MARK_DEAD_LETTERED = text("""
    UPDATE events
       SET dead_lettered_at = now(), dead_letter_reason = :reason
     WHERE tenant_id = :tenant_id AND id = :id AND event_type = :event_type AND fanned_out_at IS NULL
""")


@dataclass(frozen=True, slots=True)
class EventKey:
    """The event that a message names, and what it says of it."""

    tenant_id: UUID
    id: UUID
    event_type: str

    @classmethod
    def of(cls, envelope: Envelope) -> "EventKey":
        """Return the event that the envelope names."""
        return cls(envelope.tenant_id, envelope.id, envelope.type)


Progress: TypeAlias = dict[EventKey, Outcome]


class FanOut:
    """The consumer's handler. Nothing in it grows with the audience: users never leave the database.

    Each call is one transaction. An event with a large audience is unfinished until its last
    chunk; its cursor is stored with each, so that any worker can go on where this one stops.
    """

    def __init__(  # noqa: PLR0913 - those with a name of their own cannot be mixed up
        self,
        engine: AsyncEngine,
        *,
        chunk_size: int,
        transaction_timeout: timedelta,
        channels: Collection[str] = (),
        expire_after: timedelta,
        after_deliveries: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare the fan-out.

        Args:
            engine: The database.
            chunk_size: Users of one event who are told in one transaction.
            transaction_timeout: Ends a transaction that nothing else ended.
            channels: The channels on offer beside the inbox.
            expire_after: How long a delivery is tried.
            after_deliveries: Called after a commit with new deliveries, so that they need not wait for the next poll.
        """
        self._engine = engine
        self._chunk_size = chunk_size
        self._channels = list(channels)
        self._expire_after = expire_after
        self._after_deliveries = after_deliveries
        self._transaction_timeout = transaction_timeout

    async def handle(self, messages: Sequence[ReceivedMessage]) -> Mapping[str, Outcome]:
        """Tell the next chunk of subscribers of each event that the messages name, in one transaction.

        Raises:
            DependencyUnavailable: The database is away, or too slow even for a single message.
            Exception: One of the events cannot be fanned out, or they are too much at once.
        """
        outcomes: dict[str, Outcome] = {}
        keys: dict[str, EventKey] = {}
        for message in messages:
            try:
                keys[message.id] = EventKey.of(parse_envelope(message.body))
            except MalformedEnvelope as error:
                outcomes[message.id] = DeadLetter("malformed_message", str(error))
        if keys:
            async with self._transaction(divisible=len(messages) > 1) as connection:
                progress, delivery_count = await self._fan_out(connection, set(keys.values()))
            if delivery_count:
                self._after_deliveries()
            outcomes |= {message_id: progress[key] for message_id, key in keys.items()}
        return outcomes

    async def give_up(self, message: ReceivedMessage, verdict: DeadLetter) -> None:
        """Mark the event of a dead letter, if it has one, so that the reconciler does not publish it again.

        Raises:
            DependencyUnavailable: The database is away.
        """
        try:
            key = EventKey.of(parse_envelope(message.body))
        except MalformedEnvelope:
            return
        async with self._transaction(divisible=False) as connection:
            await connection.execute(
                MARK_DEAD_LETTERED,
                {
                    "tenant_id": key.tenant_id,
                    "id": key.id,
                    "event_type": key.event_type,
                    "reason": f"{verdict.reason}: {verdict.detail}",
                },
            )

    async def probe(self) -> None:
        """Return if the database could fan out: the statement itself is tried, on no events.

        Raises:
            DependencyUnavailable: It could not.
        """
        async with self._transaction(divisible=False) as connection:
            await connection.execute(FAN_OUT, self._parameters([]))

    async def _fan_out(self, connection: AsyncConnection, keys: Collection[EventKey]) -> tuple[Progress, int]:
        started_at = time.perf_counter()
        await connection.execute(KEEP_INDEX_ORDER)
        rows = (await connection.execute(FAN_OUT, self._parameters(keys))).all()
        progress: Progress = {
            EventKey(row.tenant_id, row.id, row.event_type): Completed() if row.complete else Unfinished()
            for row in rows
        }
        delivery_count = rows[0].delivery_count if rows else 0
        logger.info(
            "batch.fanned_out",
            event_count=len(rows),
            unfinished_count=sum(not row.complete for row in rows),
            notification_count=rows[0].notification_count if rows else 0,
            delivery_count=delivery_count,
            duration=round(time.perf_counter() - started_at, 4),
        )
        untouched = keys - progress.keys()
        if untouched:
            progress |= await self._explain(connection, untouched)
        return progress, delivery_count

    async def _explain(self, connection: AsyncConnection, keys: Collection[EventKey]) -> Progress:
        """Return why the statement did nothing for these events; done before is the usual reason."""
        rows = await connection.execute(FIND_TYPES, _columns(keys))
        types = {(row.tenant_id, row.id): row.event_type for row in rows}
        return {key: _explanation(key, types.get((key.tenant_id, key.id))) for key in keys}

    def _parameters(self, keys: Collection[EventKey]) -> dict[str, object]:
        return {
            **_columns(keys),
            "event_types": [key.event_type for key in keys],
            "chunk_size": self._chunk_size,
            "channels": self._channels,
            "expire_after": self._expire_after,
        }

    @asynccontextmanager
    async def _transaction(self, *, divisible: bool) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that commits at the end of the block, and raise its errors as the consumer wants them.

        Args:
            divisible: Whether the same work can be tried in smaller parts.

        Raises:
            DependencyUnavailable: It is not the fault of the messages.
        """
        try:
            async with (
                asyncio.timeout(self._transaction_timeout.total_seconds()),
                self._engine.begin() as connection,
            ):
                yield connection
        except Exception as error:
            culprit = blame(error)
            if culprit is Blame.DATABASE or (culprit is Blame.LOAD and not divisible):
                # The first line says what happened, the others repeat the statement.
                raise DependencyUnavailable(str(error).partition("\n")[0]) from error
            raise


def _columns(keys: Collection[EventKey]) -> dict[str, list[UUID]]:
    return {"tenant_ids": [key.tenant_id for key in keys], "ids": [key.id for key in keys]}


def _explanation(key: EventKey, actual_type: str | None) -> Outcome:
    if actual_type is None:
        return DeadLetter("unknown_event", f"Tenant {key.tenant_id} has no event {key.id}.")
    if actual_type != key.event_type:
        return DeadLetter("mismatched_event", f"Event {key.id} is of type {actual_type}, not {key.event_type}.")
    return Completed()

"""What the dispatcher asks the database: two short transactions around each message, shared by many."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.ids import new_id
from worker.deliveries.endpoints import FIRST_WINDOW
from worker.deliveries.schedule import Outcome, Verdict
from worker.deliveries.settings import TRANSACTION_TIMEOUT

CLAIM = text(Path(__file__).with_name("claim.sql").read_text()).columns(snapshot=JSONB)
RECORD = text(Path(__file__).with_name("record.sql").read_text())

# Rows are found one by one in an index. A planner that takes a handful for thousands would rather read all of a table;
# and a plan that was made while there were few rows is not kept for when there are very many. Said once for a
# connection, and each statement is a transaction of its own: every further round trip waits for a turn of an event loop
# that is busy sending.
PLANNER = {
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "plan_cache_mode": "force_custom_plan",
}

# Rows that nothing can be done about for a while move on, or they would be read again with each claim.
DEFER = text("""
    WITH blocked AS MATERIALIZED (
        SELECT tenant_id, id, CAST(CAST(:pauses AS jsonb) ->> endpoint AS double precision) AS pause
          FROM deliveries
         WHERE channel = :channel AND status = 'pending' AND next_attempt_at <= now()
           AND endpoint = ANY (CAST(:endpoints AS text[]))
         LIMIT :row_count
           FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE deliveries AS delivery
       SET next_attempt_at = least(now() + (pause * (1 + random() / 2)) * interval '1 second', expires_at)
      FROM blocked
     WHERE (delivery.tenant_id, delivery.id) = (blocked.tenant_id, blocked.id)
""")
MAX_DEFERRED = 5000


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that is ours to send, with all that its message needs, until its lease ends by the monotonic clock.

    In the order in which the statement answers.
    """

    token: UUID
    lease_ends_at: float
    tenant_id: UUID
    id: UUID
    number: int
    failure_count: int
    about: str | None
    about_address: str | None
    created_at: datetime
    contact_point_id: UUID
    endpoint: str | None
    encrypted_address: str
    encrypted_secrets: str | None
    stated_at: datetime
    event_id: UUID
    event_type: str
    scenario_id: UUID
    snapshot: Mapping[str, Any]
    occurred_at: datetime
    mandatory: bool
    user_id: UUID
    locale: str | None
    time_zone: str | None


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a claim, and what becomes of the delivery."""

    claim: Claim
    outcome: Outcome
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was written down: how many results were not too late, and what that led to."""

    recorded_count: int
    disabled_count: int
    word_count: int


class DeliveryRepository:
    """The deliveries of one channel."""

    def __init__(  # noqa: PLR0913 - those with a name of their own cannot be mixed up
        self,
        engine: AsyncEngine,
        channel: str,
        *,
        channels: Collection[str],
        repeats_unknown: bool,
        retry_count: int,
        lease: timedelta,
        expire_after: timedelta,
        disable_after: timedelta,
    ) -> None:
        """Prepare to ask.

        Args:
            engine: The database, best with the settings of `PLANNER`.
            channel: Whose deliveries.
            channels: All channels on offer, the best way to tell a person first.
            repeats_unknown: Whether a message that may have been taken is sent again.
            retry_count: How often a message is sent again before it has failed.
            lease: After how long a claimed delivery counts as lost.
            expire_after: How long word of a disabled contact point is tried.
            disable_after: How long a server may fail before its contact point is disabled.
        """
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._channel = channel
        self._lease = lease
        self._of_claim = {
            "channel": channel,
            "repeats_unknown": repeats_unknown,
            "retry_count": retry_count,
            "lease": lease,
            "first_room": FIRST_WINDOW,
        }
        self._of_record = {
            "channels": list(channels),
            "expire_after": expire_after,
            "disable_after": disable_after,
        }

    async def claim(self, room: int, rooms: Mapping[str, int]) -> tuple[list[Claim], int]:
        """Take deliveries that are due, begin an attempt of each, and return them with how many were ended instead.

        Args:
            room: How many, at most.
            rooms: How many for each server that is known.
        """
        token = new_id()
        lease_ends_at = time.monotonic() + self._lease.total_seconds()
        full = [endpoint for endpoint, count in rooms.items() if count <= 0]
        parameters = {**self._of_claim, "token": token, "room": room, "rooms": json.dumps(rooms), "full": full}
        async with self._connect() as connection:
            rows = (await connection.execute(CLAIM, parameters)).all()
        claims = [Claim(token, lease_ends_at, *row[1:]) for row in rows if row.id is not None]
        return claims, rows[0].ended_count

    async def record(self, results: Sequence[Result]) -> Recorded:
        """Write down what came of claims; those whose lease somebody else has taken over are left to them."""
        columns: dict[str, list[object]] = {
            "tenant_ids": [result.claim.tenant_id for result in results],
            "ids": [result.claim.id for result in results],
            "tokens": [result.claim.token for result in results],
            "numbers": [result.claim.number for result in results],
            "statuses": [result.verdict.status.value for result in results],
            "reasons": [result.verdict.reason and result.verdict.reason.value for result in results],
            "waits": [result.verdict.wait for result in results],
            "failures": [int(result.verdict.failed) for result in results],
            "results": [result.outcome.result.value for result in results],
            "details": [result.outcome.detail for result in results],
            "providers": [result.outcome.receipt and result.outcome.receipt.provider for result in results],
            "provider_ids": [result.outcome.receipt and result.outcome.receipt.provider_id for result in results],
            "contact_point_ids": [result.claim.contact_point_id for result in results],
            "stated_ats": [result.claim.stated_at for result in results],
            "gone": [result.outcome.address_gone for result in results],
            "blamed": [result.outcome.blames_address for result in results],
        }
        async with self._connect() as connection:
            rows = (await connection.execute(RECORD, {**columns, **self._of_record})).all()
        if not rows:
            return Recorded(0, 0, 0)
        return Recorded(len(rows), rows[0].disabled_count, rows[0].word_count)

    async def defer(self, pauses: Mapping[str, timedelta]) -> int:
        """Put off what is due at these servers until they may get something again, and return how many that were."""
        seconds = {endpoint: pause.total_seconds() for endpoint, pause in pauses.items()}
        parameters = {
            "channel": self._channel,
            "pauses": json.dumps(seconds),
            "endpoints": list(seconds),
            "row_count": MAX_DEFERRED,
        }
        async with self._connect() as connection:
            return (await connection.execute(DEFER, parameters)).rowcount

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[AsyncConnection]:
        async with asyncio.timeout(TRANSACTION_TIMEOUT.total_seconds()), self._engine.connect() as connection:
            yield connection

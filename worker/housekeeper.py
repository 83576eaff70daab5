"""Deletes what has expired: the answers kept for requests that carried an idempotency key.

The worker does it rather than the api, so that no request pays for it, and so that the
answers, which hold what users wrote, are gone on time even where nobody asks any more.
"""

from datetime import timedelta

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.health import Beat
from worker.stopping import Stop

logger = structlog.get_logger(__name__)

# Small enough that each transaction takes milliseconds and no replica falls behind.
BATCH_SIZE = 1000

# A locked row is being deleted by another worker, or taken again by a request with the same key.
DELETE_EXPIRED = text("""
    WITH expired AS MATERIALIZED (
        SELECT tenant_id, caller_id, key
          FROM idempotency_keys
         WHERE expires_at < now()
         ORDER BY expires_at
         LIMIT :batch_size
           FOR UPDATE SKIP LOCKED
    )
    DELETE FROM idempotency_keys AS kept
     USING expired
     WHERE (kept.tenant_id, kept.caller_id, kept.key) = (expired.tenant_id, expired.caller_id, expired.key)
""")


class Housekeeper:
    """Deletes expired rows at intervals, batch by batch; several workers may do it at the same time."""

    def __init__(self, engine: AsyncEngine, *, interval: timedelta, stop: Stop, beat: Beat) -> None:
        """Prepare a housekeeper; `run` makes it work."""
        self._engine = engine
        self._interval = interval
        self._stop = stop
        self._beat = beat

    async def run(self) -> None:
        """Clean up at intervals until stopped. No failure ends the loop: the next turn finds the same rows."""
        while True:
            await self._stop.pause(self._interval)
            if self._stop.requested:
                return
            try:
                await self.clean_up()
            except (SQLAlchemyError, OSError) as error:
                logger.warning("housekeeper.postponed", detail=repr(error))
            except Exception:
                logger.exception("housekeeper.failed")
            self._beat()

    async def clean_up(self) -> int:
        """Delete all that has expired and return how many rows that were; a stop ends it after the batch under way."""
        total = 0
        while not self._stop.requested:
            async with self._engine.begin() as connection:
                deleted = (await connection.execute(DELETE_EXPIRED, {"batch_size": BATCH_SIZE})).rowcount
            total += deleted
            self._beat()
            if deleted < BATCH_SIZE:
                break
        if total:
            logger.info("idempotency_keys.deleted", key_count=total)
        return total

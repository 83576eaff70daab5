"""Repairs what the queue lost: events that were published but did not arrive are put back into the outbox."""

from datetime import timedelta

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.queue import Queue, QueueUnavailable
from worker.health import Beat
from worker.settings import WorkerSettings
from worker.stopping import Stop

logger = structlog.get_logger(__name__)

MAX_EVENTS = 500
LONGEST_DEADLINE = timedelta(hours=1)
# A queue that makes no headway for so long may hold anything, or nothing of ours.
LONGEST_BACKLOG = timedelta(minutes=15)

# The first condition uses the index, the second is the deadline that doubled.
OVERDUE = """
    published_at IS NOT NULL AND fanned_out_at IS NULL AND dead_lettered_at IS NULL
    AND published_at < now() - CAST(:deadline AS interval)
    AND published_at < now() - least(
            CAST(:deadline AS interval) * power(2, least(republish_count, 20)), CAST(:longest_deadline AS interval))
"""

SURVEY = text(f"SELECT count(*) AS event_count, now() - min(published_at) AS age FROM events WHERE {OVERDUE}")  # noqa: S608

# Rows that are locked are being fanned out, or put back by another worker.
PUT_BACK = text(f"""
    WITH lost AS MATERIALIZED (
        SELECT tenant_id, id
          FROM events
         WHERE {OVERDUE}
         ORDER BY published_at
         LIMIT :max_events
           FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE events
       SET published_at = NULL, claimed_until = NULL, republish_count = republish_count + 1
      FROM lost
     WHERE (events.tenant_id, events.id) = (lost.tenant_id, lost.id)
""")  # noqa: S608 - the condition is the constant above


class Reconciler:
    """Puts events back into the outbox that are not fanned out within their deadline; a relay publishes them again.

    A message too many is harmless, one too few is a notification lost. So this may guess, and
    several workers may do it at the same time.
    """

    def __init__(self, engine: AsyncEngine, queue: Queue, settings: WorkerSettings, *, stop: Stop, beat: Beat) -> None:
        """Prepare a reconciler; `run` makes it work."""
        self._engine = engine
        self._queue = queue
        self._settings = settings
        self._stop = stop
        self._beat = beat

    async def run(self) -> None:
        """Reconcile at intervals until stopped. No failure ends the loop: the next turn sees the same events."""
        while True:
            await self._stop.pause(self._settings.reconcile_interval)
            if self._stop.requested:
                return
            try:
                await self.reconcile()
            except (SQLAlchemyError, OSError, QueueUnavailable) as error:
                logger.warning("reconciler.postponed", detail=repr(error))
            except Exception:
                logger.exception("reconciler.failed")
            self._beat()

    async def reconcile(self) -> int:
        """Put lost events back and return how many.

        An event that still waits in a long queue is late, not lost: while the queue holds as
        many messages as there are overdue events, none is put back.
        """
        parameters = {"deadline": self._settings.reconcile_after, "longest_deadline": LONGEST_DEADLINE}
        async with self._engine.connect() as connection:
            overdue = (await connection.execute(SURVEY, parameters)).one()
        if not overdue.event_count:
            return 0
        depth = await self._queue.depth()
        if depth.total >= overdue.event_count and overdue.age < LONGEST_BACKLOG:
            logger.info("events.overdue", event_count=overdue.event_count, queue_depth=depth.total)
            return 0
        async with self._engine.begin() as connection:
            result = await connection.execute(PUT_BACK, {**parameters, "max_events": MAX_EVENTS})
        logger.warning("events.put_back", event_count=result.rowcount, queue_depth=depth.total)
        return result.rowcount

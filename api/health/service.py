"""Whether this process can serve."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from api.health.schemas import ReadinessReport
from shared.queue.ports import Queue, QueueMisconfigured, QueueUnavailable
from shared.schema import current_revision, is_behind

logger = structlog.get_logger(__name__)

DEADLINE = timedelta(seconds=2)
CACHE_TIME = timedelta(seconds=2)
OK = "ok"


class Readiness:
    """Whether this process can serve, looked up once every two seconds however often balancers ask."""

    def __init__(self, engine: AsyncEngine, queue: Queue, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Look at this database and this queue."""
        self.draining = False
        self._engine = engine
        self._queue = queue
        self._monotonic = monotonic
        self._looking = asyncio.Lock()
        self._checks: dict[str, str] = {}
        self._fresh_until = float("-inf")

    async def report(self) -> ReadinessReport:
        """Return what is ready and what is not; it takes no longer than the deadline of the checks.

        While draining the answer does not depend on the checks, so it comes at once, with those made before.
        """
        if self.draining:
            return ReadinessReport(status="draining", checks=self._checks)
        async with self._looking:
            if self._monotonic() >= self._fresh_until:
                self._checks = await self._look()
                self._fresh_until = self._monotonic() + CACHE_TIME.total_seconds()
        ready = all(state == OK for state in self._checks.values())
        return ReadinessReport(status="ready" if ready else "unavailable", checks=self._checks)

    async def _look(self) -> dict[str, str]:
        (database, migrations), queue = await asyncio.gather(self._look_at_database(), self._look_at_queue())
        checks = {"database": database, "migrations": migrations, "queue": queue}
        if checks != self._checks:
            logger.info("readiness.changed", **checks)
        return checks

    async def _look_at_database(self) -> tuple[str, str]:
        try:
            async with asyncio.timeout(DEADLINE.total_seconds()):
                revision = await current_revision(self._engine)
        except (SQLAlchemyError, OSError):
            return "unreachable", "unknown"
        return OK, "behind" if is_behind(revision) else OK

    async def _look_at_queue(self) -> str:
        try:
            async with asyncio.timeout(DEADLINE.total_seconds()):
                await self._queue.check()
        except QueueMisconfigured:
            return "misconfigured"
        except (QueueUnavailable, OSError):
            return "unreachable"
        return OK

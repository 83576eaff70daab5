"""One transaction with a clear edge: it commits at the end, as a rule only then, and tells who waits for its events."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.models.recorder import has_written_events


class UnitOfWork:
    """What one request or one job changes together."""

    def __init__(self, session: AsyncSession) -> None:
        """Wrap the session whose transaction this is."""
        self.session = session
        self.has_paused = False

    async def pause(self) -> None:
        """Commit what was done so far, before something slow or something that cannot be taken back.

        The connection goes back to the pool, so that no transaction waits for a provider. What follows is another
        transaction, in the same scope.
        """
        await self.session.commit()
        self.has_paused = True


@asynccontextmanager
async def open_unit_of_work(
    sessions: async_sessionmaker[AsyncSession], *, after_events: Callable[[], None] = lambda: None
) -> AsyncIterator[UnitOfWork]:
    """Yield a unit of work that commits when the block ends well and rolls back when it raises.

    Args:
        sessions: Factory of sessions.
        after_events: Called after a commit that wrote events, so that the relay need not wait for its next poll.
    """
    async with sessions() as session:
        yield UnitOfWork(session)
        await session.commit()
        wrote_events = has_written_events(session)
    if wrote_events:
        after_events()

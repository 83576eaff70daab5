"""What is asked of the events that the worker gave up; always of the tenant of the program that asks."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from api.api_keys import Program
from api.pagination import Window
from shared.models import Event
from shared.models.recorder import note_written_events
from shared.roles import BECOME_RELAY, BECOME_SELF

IS_DEAD = Event.dead_lettered_at.is_not(None)


async def list_dead_letters(
    program: Program, session: AsyncSession, window: Window
) -> Sequence[sa.Row[*tuple[Any, ...]]]:
    """Return dead letters, newest event first, without what happened in them."""
    query = (
        sa.select(
            Event.id.label("event_id"),
            Event.event_type,
            Event.scenario_id,
            Event.occurred_at,
            Event.dead_lettered_at,
            Event.dead_letter_reason.label("reason"),
        )
        .where(Event.tenant_id == program.tenant_id, IS_DEAD)
        .order_by(Event.id.desc())
        .limit(window.fetch)
    )
    if window.after_id is not None:
        query = query.where(Event.id < window.after_id)
    return (await session.execute(query)).all()


async def list_oldest(program: Program, session: AsyncSession, limit: int) -> Sequence[UUID]:
    """Return the ids of the oldest dead letters."""
    return (await session.scalars(_oldest(program, limit))).all()


async def redrive_oldest(program: Program, session: AsyncSession, limit: int) -> Sequence[UUID]:
    """Put the oldest dead letters back into the outbox and return their ids, the oldest first.

    The fan-out goes on where it stopped, and whoever was told already is not told again. What somebody else is bringing
    back at this moment is left to them.
    """
    async with _as_relay(session):
        ids = (await session.scalars(_oldest(program, limit).with_for_update(skip_locked=True, key_share=True))).all()
        await session.execute(
            sa.update(Event)
            .where(Event.tenant_id == program.tenant_id, Event.id.in_(ids), IS_DEAD)
            .values(published_at=None, claimed_until=None, dead_lettered_at=None, dead_letter_reason=None)
            .execution_options(synchronize_session=False)
        )
    if ids:
        note_written_events(session)
    return ids


def _oldest(program: Program, limit: int) -> sa.Select[UUID]:
    return sa.select(Event.id).where(Event.tenant_id == program.tenant_id, IS_DEAD).order_by(Event.id).limit(limit)


@asynccontextmanager
async def _as_relay(session: AsyncSession) -> AsyncIterator[None]:
    """Work with the rights of the relay: the api itself cannot change an event. A failure ends the transaction."""
    await session.execute(BECOME_RELAY)
    yield
    await session.execute(BECOME_SELF)

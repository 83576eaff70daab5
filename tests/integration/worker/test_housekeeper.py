"""What has expired goes, and nothing else."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from shared.clock import utc_now
from shared.ids import new_id
from shared.models import IdempotencyKey
from tests.factories import make_tenant
from worker import housekeeper
from worker.housekeeper import Housekeeper
from worker.stopping import Stop

Sessions = async_sessionmaker[AsyncSession]

HOUR = timedelta(hours=1)


def build(engine: AsyncEngine, stop: Stop | None = None, interval: timedelta = HOUR) -> Housekeeper:
    return Housekeeper(engine, interval=interval, stop=stop or Stop(), beat=lambda: None)


@pytest.fixture
async def tenant_id(sessions: Sessions) -> UUID:
    async with sessions.begin() as session:
        return (await make_tenant(session)).id


async def add_keys(sessions: Sessions, tenant_id: UUID, number: int, *, expires_in: timedelta) -> None:
    async with sessions.begin() as session:
        await session.execute(
            sa.insert(IdempotencyKey),
            [
                {
                    "tenant_id": tenant_id,
                    "caller_id": new_id(),
                    "key": "a",
                    "fingerprint": b"",
                    "expires_at": utc_now() + expires_in,
                }
                for _ in range(number)
            ],
        )


async def count(sessions: Sessions) -> int:
    async with sessions() as session:
        return await session.scalar(sa.select(sa.func.count()).select_from(IdempotencyKey)) or 0


class TestCleanUp:
    async def test_expired_answers_are_deleted_batch_by_batch(
        self, worker_engine: AsyncEngine, sessions: Sessions, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
    ):
        await add_keys(sessions, tenant_id, 25, expires_in=-HOUR)
        await add_keys(sessions, tenant_id, 2, expires_in=HOUR)
        monkeypatch.setattr(housekeeper, "BATCH_SIZE", 10)

        assert await build(worker_engine).clean_up() == 25
        assert await build(worker_engine).clean_up() == 0
        assert await count(sessions) == 2

    async def test_what_is_being_used_again_is_left_alone(
        self, worker_engine: AsyncEngine, sessions: Sessions, tenant_id: UUID
    ):
        await add_keys(sessions, tenant_id, 3, expires_in=-HOUR)

        async with sessions() as session:
            await session.scalars(sa.select(IdempotencyKey).limit(1).with_for_update())
            assert await build(worker_engine).clean_up() == 2

        assert await build(worker_engine).clean_up() == 1

    async def test_workers_may_do_it_at_the_same_time(
        self, worker_engine: AsyncEngine, sessions: Sessions, tenant_id: UUID
    ):
        await add_keys(sessions, tenant_id, 50, expires_in=-HOUR)

        deleted = await asyncio.gather(*(build(worker_engine).clean_up() for _ in range(4)))

        assert sum(deleted) == 50

    async def test_the_expired_are_found_by_their_index(self, sessions: Sessions, tenant_id: UUID):
        await add_keys(sessions, tenant_id, 5, expires_in=HOUR)

        async with sessions() as session:
            await session.execute(sa.text("SET enable_seqscan = off"))
            plan = await session.scalars(
                sa.text(f"EXPLAIN {housekeeper.DELETE_EXPIRED.text}"), {"batch_size": housekeeper.BATCH_SIZE}
            )

            assert "ix_idempotency_keys_expires_at" in "\n".join(plan)


class TestRun:
    async def test_it_cleans_up_until_it_is_stopped(
        self, worker_engine: AsyncEngine, sessions: Sessions, tenant_id: UUID
    ):
        await add_keys(sessions, tenant_id, 1, expires_in=-HOUR)
        stop = Stop()

        running = asyncio.create_task(build(worker_engine, stop, timedelta(milliseconds=10)).run())
        while await count(sessions):
            await asyncio.sleep(0.01)
        stop.request()

        await running

    async def test_no_failure_ends_it(self, worker_engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch):
        stop, turns = Stop(), 0

        async def fail(_self: Housekeeper) -> int:
            nonlocal turns
            turns += 1
            if turns == 3:
                stop.request()
            raise RuntimeError

        monkeypatch.setattr(Housekeeper, "clean_up", fail)

        await build(worker_engine, stop, timedelta(milliseconds=1)).run()

        assert turns == 3

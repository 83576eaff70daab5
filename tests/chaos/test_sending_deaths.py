"""Workers are killed while they send: nothing is lost, and what is sent twice can be counted."""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, Process
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from tests.fixtures.deliveries import (
    KEY,
    add_contact_point,
    add_deliveries,
    add_person,
    list_deliveries,
    until_settled,
)

Sessions = async_sessionmaker[AsyncSession]

MESSAGE_COUNT = 300
KILLS = 3


class Sink:
    """A server that counts by id what it was sent, and takes a moment to answer."""

    def __init__(self) -> None:
        self.received: Counter[str] = Counter()
        self.port = 0
        self._arrived = asyncio.Condition()

    async def until_received(self, count: int) -> None:
        """Return when so many messages have come, repetitions included."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: self.received.total() >= count)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
                await reader.readexactly(int(headers["content-length"]))
                async with self._arrived:
                    self.received[headers["webhook-id"]] += 1
                    self._arrived.notify_all()
                await asyncio.sleep(0.005)
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # The worker was killed, or has closed an idle connection.
        finally:
            writer.close()


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    sink = Sink()
    server = await asyncio.start_server(sink.answer, "127.0.0.1", 0)
    sink.port = server.sockets[0].getsockname()[1]
    yield sink
    server.close()


async def start_worker(database_url: str, health_file: Path, concurrency: int) -> Process:
    environment = os.environ | {
        "DATABASE_URL": database_url,
        "ENCRYPTION_KEYS": KEY,
        "WEBHOOK_ENABLED": "true",
        "OUTBOUND_ALLOWED_NETWORKS": "127.0.0.0/8",
        "DELIVERY_WEBHOOK_CONCURRENCY": str(concurrency),
        "WORKER_HEALTH_FILE": str(health_file),
    }
    command = [sys.executable, "-m", "worker", "--only", "deliveries"]
    return await asyncio.create_subprocess_exec(*command, env=environment, stdout=DEVNULL, stderr=DEVNULL)


async def end_leases(sessions: Sessions) -> None:
    """Let the leases of a worker that is dead run out, instead of waiting a minute for it."""
    async with sessions.begin() as session:
        await session.execute(text("UPDATE deliveries SET next_attempt_at = now() WHERE lease_token IS NOT NULL"))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("concurrency", [1, 20])
async def test_each_kill_repeats_no_more_than_was_on_its_way(
    worker_database_url: str, sessions: Sessions, sink: Sink, tmp_path: Path, concurrency: int
):
    alice = await add_person(sessions)
    await add_contact_point(sessions, alice, address=f"http://127.0.0.1:{sink.port}/hook", secrets=[SECRET])
    await add_deliveries(sessions, alice, MESSAGE_COUNT)

    for number in range(KILLS):
        worker = await start_worker(worker_database_url, tmp_path / "health", concurrency)
        await sink.until_received((number + 1) * MESSAGE_COUNT // (KILLS + 2))
        worker.kill()
        await worker.wait()
        await end_leases(sessions)
    worker = await start_worker(worker_database_url, tmp_path / "health", concurrency)
    await until_settled(sessions)
    worker.terminate()
    status = await worker.wait()

    deliveries = await list_deliveries(sessions)
    assert status == 0
    assert {delivery.status for delivery in deliveries} == {"delivered"}
    assert set(sink.received) == {str(delivery.id) for delivery in deliveries}
    assert max(sink.received.values()) <= 1 + KILLS
    assert sink.received.total() - MESSAGE_COUNT <= KILLS * concurrency
    # Each repetition has left its trace: an attempt of which nobody knows.
    async with sessions() as session:
        lost = await session.scalar(text("SELECT count(*) FROM delivery_attempts WHERE result = 'outcome_unknown'"))
    assert sink.received.total() - MESSAGE_COUNT <= int(lost or 0)


SECRET: dict[str, str | None] = {"secret": "whsec_" + "c2VjcmV0" * 6, "expires_at": None}

"""The health endpoints."""

import asyncio
from dataclasses import replace

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from structlog.testing import capture_logs
from typing_extensions import override

from api.health import service
from api.settings import Settings
from shared.queue.memory import MemoryQueue
from shared.queue.ports import QueueMisconfigured, QueueUnavailable
from shared.settings import DatabaseSettings
from tests.integration.api.clients import client_of, running_app

Sessions = async_sessionmaker[AsyncSession]
ALL_OK = {"database": "ok", "migrations": "ok", "queue": "ok"}


class FailingQueue(MemoryQueue):
    """A queue whose check ends as it is told."""

    failure: Exception | None = None

    @override
    async def check(self) -> None:
        if self.failure is None:
            await asyncio.Event().wait()
        raise self.failure or AssertionError


async def readiness_of(settings: Settings, queue: MemoryQueue) -> httpx.Response:
    """Return what `/readyz` of an application with this queue answers."""

    async with running_app(settings, queue) as app, client_of(app) as client:
        return await client.get("/readyz")


class TestLiveness:
    async def test_a_running_process_is_alive(self, nobody: httpx.AsyncClient):
        response = await nobody.get("/livez")

        assert (response.status_code, response.json()) == (200, {"status": "alive"})


class TestReadiness:
    async def test_it_is_ready_when_everything_is_there(self, nobody: httpx.AsyncClient):
        response = await nobody.get("/readyz")

        assert (response.status_code, response.json()) == (200, {"status": "ready", "checks": ALL_OK})

    async def test_it_is_not_while_draining(self, app: FastAPI, nobody: httpx.AsyncClient):
        app.state.runtime.readiness.draining = True

        response = await nobody.get("/readyz")

        assert (response.status_code, response.json()["status"]) == (503, "draining")
        assert (await nobody.get("/livez")).status_code == 200

    async def test_while_draining_it_says_so_at_once(self, settings: Settings):
        queue = FailingQueue()
        async with running_app(settings, queue) as app, client_of(app) as client:
            app.state.runtime.readiness.draining = True

            async with asyncio.timeout(service.DEADLINE.total_seconds() / 2):
                response = await client.get("/readyz")

        assert (response.status_code, response.json()["status"]) == (503, "draining")

    async def test_it_is_not_without_the_database(self, settings: Settings, queue: MemoryQueue):
        nowhere = DatabaseSettings.model_validate({"url": "postgresql://nobody@127.0.0.1:1/none"})

        response = await readiness_of(replace(settings, database=nowhere), queue)

        assert response.status_code == 503
        assert response.json() == {
            "status": "unavailable",
            "checks": {"database": "unreachable", "migrations": "unknown", "queue": "ok"},
        }

    async def test_it_is_not_before_the_migrations(self, settings: Settings, sessions: Sessions, queue: MemoryQueue):
        async with sessions.begin() as session:
            await session.execute(sa.text("DELETE FROM alembic_version"))

        response = await readiness_of(settings, queue)

        assert (response.status_code, response.json()["checks"]) == (503, {**ALL_OK, "migrations": "behind"})

    async def test_it_is_with_a_database_that_newer_code_has_migrated(
        self, settings: Settings, sessions: Sessions, queue: MemoryQueue
    ):
        async with sessions.begin() as session:
            await session.execute(sa.text("UPDATE alembic_version SET version_num = 'newer'"))

        assert (await readiness_of(settings, queue)).json()["checks"] == ALL_OK

    @pytest.mark.parametrize(
        ("failure", "state"),
        [
            (QueueUnavailable("away"), "unreachable"),
            (QueueMisconfigured("no such queue"), "misconfigured"),
            (None, "unreachable"),
        ],
        ids=["away", "misconfigured", "silent"],
    )
    async def test_it_is_not_without_the_queue(
        self, settings: Settings, failure: Exception | None, state: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(service, "DEADLINE", service.DEADLINE / 4)
        queue = FailingQueue()
        queue.failure = failure

        response = await readiness_of(settings, queue)

        assert (response.status_code, response.json()["checks"]) == (503, {**ALL_OK, "queue": state})

    async def test_many_probes_make_one_look(self, nobody: httpx.AsyncClient, queue: MemoryQueue):
        looks = 0

        async def check() -> None:
            nonlocal looks
            looks += 1

        queue.check = check  # type: ignore[method-assign] # counts the looks of this one queue

        await asyncio.gather(*(nobody.get("/readyz") for _ in range(20)))

        assert looks == 1


class TestAccessLog:
    async def test_it_has_one_line_per_request_but_none_for_health(self, nobody: httpx.AsyncClient):
        with capture_logs() as logs:
            await nobody.get("/livez")
            await nobody.get("/readyz")
            await nobody.get("/v1/scenarios?label=private")

        [line] = [entry for entry in logs if entry["event"] == "request.handled"]
        assert (line["method"], line["path"], line["status"]) == ("GET", "/v1/scenarios", 401)
        assert line["operation"] == "list_scenarios"
        assert "private" not in str(line)


class TestDatabaseLogin:
    async def test_one_that_skips_the_policies_is_reported_at_the_start(
        self, settings: Settings, database_url: str, queue: MemoryQueue
    ):
        superuser = DatabaseSettings.model_validate({"url": database_url})
        assert "database.unprotected" in await events_at_the_start(replace(settings, database=superuser), queue)

    async def test_that_of_the_api_is_not(self, settings: Settings, queue: MemoryQueue):
        assert "database.unprotected" not in await events_at_the_start(settings, queue)


async def events_at_the_start(settings: Settings, queue: MemoryQueue) -> list[str]:
    with capture_logs() as logs:
        async with running_app(settings, queue):
            await asyncio.sleep(0.3)
    return [entry["event"] for entry in logs]

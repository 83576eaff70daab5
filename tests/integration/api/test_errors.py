"""What a caller is told when something is wrong, whatever it is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from api.notifications import repository
from api.notifications.schemas import Counts
from api.settings import Settings
from shared.models import TestScenario, User
from shared.queue.memory import MemoryQueue
from shared.settings import DatabaseSettings
from tests.factories import make_scenario
from tests.integration.api.clients import client_of, running_app, token_for

JSON = {"Content-Type": "application/json"}
BIG = 256 * 1024


def check(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Return the problem after checking the members that every problem has."""
    problem: dict[str, Any] = response.json()
    assert response.status_code == problem["status"] == status
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["code"] == code
    assert problem["type"] == f"urn:problem-type:{code}"
    assert problem["instance"] == response.request.url.path
    assert problem["request_id"] == response.headers["x-request-id"]
    assert problem["title"]
    assert problem["detail"]
    return problem


class TestRouting:
    @pytest.mark.parametrize("path", ["/", "/v1", "/v2/scenarios", "/v1/scenarios/", "/docs", "/%00"])
    async def test_an_unknown_address_is_not_found(self, nobody: httpx.AsyncClient, path: str):
        check(await nobody.get(path), 404, "not_found")

    async def test_an_unknown_method_is_told_the_known_ones(self, alice: httpx.AsyncClient):
        response = await alice.patch("/v1/scenarios")

        check(response, 405, "method_not_allowed")
        assert response.headers["allow"] == "GET, POST"

    @pytest.mark.parametrize("action", ["read", "seen"])
    async def test_the_name_of_an_action_is_no_id(self, alice: httpx.AsyncClient, action: str):
        response = await alice.get(f"/v1/notifications/{action}")

        check(response, 405, "method_not_allowed")
        assert response.headers["allow"] == "POST"


class TestBody:
    @pytest.mark.parametrize(
        "body",
        [
            b"{",
            b"nul",
            b'{"name": NaN}',
            b'{"name": -Infinity}',
            b'{"name": 1e999}',
            b'{"name": "a", "name": "b"}',
            b'{"name": "a", "\\ud800": 1}',
            b'\xef\xbb\xbf{"name": "a"}',
            b'{"name": "\xff"}',
            '{"name": "a"}'.encode("utf-16"),
            b"[" * 100_000,
            b'{"name": ' + b"1" * 5000 + b"}",
            b"{'name': 'a'}",
        ],
        ids=lambda body: repr(body[:24]),
    )
    async def test_what_is_no_json_is_malformed(self, alice: httpx.AsyncClient, body: bytes):
        response = await alice.post("/v1/scenarios", content=body, headers=JSON)

        check(response, 400, "malformed_json")

    async def test_a_missing_one_is_invalid_input(self, alice: httpx.AsyncClient):
        problem = check(await alice.post("/v1/scenarios", headers=JSON), 422, "invalid_input")

        assert problem["errors"] == [{"pointer": "#", "detail": "Field required", "code": "missing"}]

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Content-Type": "text/plain"},
            {"Content-Type": "application/x-www-form-urlencoded"},
            {"Content-Type": "application/json; charset=utf-16"},
            {"Content-Type": "application/vnd.api+json"},
            {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        ],
    )
    async def test_other_media_types_are_not_supported(self, alice: httpx.AsyncClient, headers: dict[str, str]):
        response = await alice.post("/v1/scenarios", content=b'{"name": "a"}', headers=headers)

        check(response, 415, "unsupported_media_type")

    async def test_a_charset_of_utf_8_may_be_named(self, alice: httpx.AsyncClient):
        headers = {"Content-Type": "Application/JSON; charset=UTF-8"}

        response = await alice.post("/v1/scenarios", content=b'{"name": "a"}', headers=headers)

        assert response.status_code == 201

    async def test_the_largest_body_is_read(self, alice: httpx.AsyncClient):
        body = b'{"name": "a"}'.ljust(BIG)

        assert (await alice.post("/v1/scenarios", content=body, headers=JSON)).status_code == 201

    @pytest.mark.parametrize("path", ["/v1/scenarios", "/nowhere", "/v1/notifications/1/read"])
    async def test_a_body_that_announces_too_much_is_refused(self, alice: httpx.AsyncClient, path: str):
        response = await alice.post(path, content=b"{".ljust(BIG + 1), headers=JSON)

        check(response, 413, "content_too_large")

    async def test_a_body_that_becomes_too_large_is_refused(self, alice: httpx.AsyncClient):
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(BIG // 1024 + 1):
                yield b" " * 1024

        response = await alice.post("/v1/scenarios", content=chunks(), headers=JSON)

        check(response, 413, "content_too_large")

    async def test_a_flood_of_errors_is_cut_short(self, alice: httpx.AsyncClient):
        body = {"name": "a", **{str(number) * 50: 1 for number in range(1000)}}

        response = await alice.post("/v1/scenarios", json=body)

        errors = check(response, 422, "invalid_input")["errors"]
        assert len(errors) == 50
        assert all(len(error["pointer"]) <= 200 for error in errors)


class TestRequestId:
    async def test_every_answer_has_one(self, nobody: httpx.AsyncClient):
        ids = {(await nobody.get(path)).headers["x-request-id"] for path in ("/livez", "/nowhere", "/v1/scenarios")}

        assert len(ids) == 3

    async def test_the_callers_own_is_kept(self, nobody: httpx.AsyncClient):
        response = await nobody.get("/nowhere", headers={"X-Request-Id": "trace-1.2_3"})

        assert response.headers["x-request-id"] == "trace-1.2_3"

    @pytest.mark.parametrize("given", ["", "x" * 65, "a b", 'a"b', "ä"])
    async def test_unless_it_could_confuse_a_log(self, nobody: httpx.AsyncClient, given: str):
        response = await nobody.get("/nowhere", headers=[(b"X-Request-Id", given.encode())])

        assert response.headers["x-request-id"].encode() != given.encode()


class TestBugs:
    async def test_nothing_of_the_inside_is_told(
        self, app: FastAPI, nobody: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ):
        async def fail() -> None:
            message = "a secret of the inside"
            raise RuntimeError(message)

        monkeypatch.setattr(app.state.runtime.readiness, "report", fail)

        response = await nobody.get("/readyz")

        check(response, 500, "internal_error")
        assert "secret" not in response.text


class TestDatabaseAway:
    async def test_the_caller_is_asked_to_try_again(self, settings: Settings):
        nowhere = DatabaseSettings.model_validate({"url": "postgresql://nobody@127.0.0.1:1/none"})

        async with alice_of(replace(settings, database=nowhere)) as client:
            response = await client.get("/v1/notifications")

        check(response, 503, "service_unavailable")
        assert response.headers["retry-after"] == "2"

    async def test_so_it_is_while_a_lock_is_held(
        self, settings: Settings, sessions: async_sessionmaker[AsyncSession], users: dict[str, User]
    ):
        async with sessions.begin() as session:
            scenario = await make_scenario(session, users["alice"])
        impatient = settings.database.model_copy(update={"lock_timeout": timedelta(milliseconds=50)})

        async with alice_of(replace(settings, database=impatient)) as client, sessions.begin() as session:
            await session.get(TestScenario, (scenario.tenant_id, scenario.id), with_for_update=True)
            response = await client.delete(f"/v1/scenarios/{scenario.id}")

        check(response, 503, "service_unavailable")

    @pytest.mark.usefixtures("users")
    async def test_so_it_is_while_all_connections_are_taken(self, settings: Settings):
        small = settings.database.model_copy(
            update={"pool_size": 1, "pool_overflow": 0, "pool_timeout": timedelta(milliseconds=50)}
        )

        async with alice_of(replace(settings, database=small)) as client:
            responses = await asyncio.gather(*(client.get("/v1/notifications") for _ in range(30)))

        assert {response.status_code for response in responses} <= {200, 503}
        busy = [response for response in responses if response.status_code == 503]
        assert busy
        check(busy[0], 503, "service_unavailable")

    async def test_so_it_is_when_connections_break(
        self, alice: httpx.AsyncClient, sessions: async_sessionmaker[AsyncSession], monkeypatch: pytest.MonkeyPatch
    ):
        async def break_all(me: User, session: AsyncSession) -> Counts:
            async with sessions() as other:
                await other.execute(
                    sa.text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE datname = current_database() AND application_name = 'api'"
                    )
                )
            return await count_notifications(me, session)

        count_notifications = repository.count_notifications
        monkeypatch.setattr(repository, "count_notifications", break_all)

        response = await alice.get("/v1/notifications/counts")

        check(response, 503, "service_unavailable")
        monkeypatch.undo()
        assert (await alice.get("/v1/notifications/counts")).status_code == 200


@asynccontextmanager
async def alice_of(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Yield alice's client of an application with these settings."""
    async with running_app(settings, MemoryQueue()) as app, client_of(app, token_for("alice")) as client:
        yield client

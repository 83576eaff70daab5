"""What a caller is told who asks for too much."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from api.rate_limiter import RateLimiter, RateLimitSettings
from api.settings import Settings
from shared.models import User
from shared.queue.memory import MemoryQueue
from tests.integration.api.clients import client_of, running_app, token_for

NOON = 1_793_620_800.0


@asynccontextmanager
async def limited(settings: Settings, clock: list[float], **limits: Any) -> AsyncIterator[FastAPI]:
    """Yield an application with these limits and a clock that stands still unless it is moved."""
    rates = RateLimitSettings.model_validate(limits)
    async with running_app(replace(settings, rate_limit=rates), MemoryQueue()) as app:
        app.state.limiter = RateLimiter(rates, clock=lambda: clock[0])
        yield app


@pytest.fixture
async def app(settings: Settings, clock: list[float]) -> AsyncIterator[FastAPI]:
    async with limited(settings, clock, reads=3, writes=2) as app:
        yield app


@pytest.fixture
def clock() -> list[float]:
    return [NOON]


class TestLimit:
    async def test_one_request_too_many_is_refused(self, alice: httpx.AsyncClient):
        responses = [await alice.get("/v1/scenarios") for _ in range(4)]

        assert [response.status_code for response in responses] == [200, 200, 200, 429]
        problem = responses[-1].json()
        assert (problem["code"], problem["status"]) == ("rate_limited", 429)
        assert problem["request_id"] == responses[-1].headers["x-request-id"]
        assert responses[-1].headers["content-type"] == "application/problem+json"
        assert responses[-1].headers["retry-after"] == "60"
        assert responses[-1].headers["ratelimit"] == '"reads";r=0;t=60'
        assert responses[-1].headers["ratelimit-policy"] == '"reads";q=3;w=60'

    async def test_it_is_served_again_after_the_wait(self, alice: httpx.AsyncClient, clock: list[float]):
        for _ in range(3):
            await alice.get("/v1/scenarios")
        clock[0] += 20
        refused = await alice.get("/v1/scenarios")

        clock[0] += int(refused.headers["retry-after"])

        assert refused.headers["retry-after"] == "40"
        assert (await alice.get("/v1/scenarios")).status_code == 200

    async def test_a_refused_request_changes_nothing(self, alice: httpx.AsyncClient):
        responses = [await alice.post("/v1/scenarios", json={"name": str(n)}) for n in range(3)]

        assert [response.status_code for response in responses] == [201, 201, 429]
        assert len((await alice.get("/v1/scenarios")).json()["data"]) == 2

    async def test_everybody_has_their_own(self, alice: httpx.AsyncClient, bob: httpx.AsyncClient):
        for _ in range(4):
            await alice.get("/v1/scenarios")

        assert (await bob.get("/v1/scenarios")).headers["ratelimit"] == '"reads";r=2;t=60'

    async def test_a_token_more_is_no_caller_more(self, app: FastAPI, users: dict[str, User]):
        remaining = []
        for number in range(3):
            async with client_of(app, token_for(users["alice"].external_id, jti=str(number))) as client:
                remaining.append((await client.get("/v1/scenarios")).headers["ratelimit"])

        assert remaining == ['"reads";r=2;t=60', '"reads";r=1;t=60', '"reads";r=0;t=60']


class TestHeaders:
    async def test_problems_304s_and_replays_have_them_too(self, alice: httpx.AsyncClient):
        tag = (await alice.get("/v1/notifications")).headers["etag"]
        key = {"Idempotency-Key": "a"}

        responses = [
            await alice.get("/v1/notifications", headers={"If-None-Match": tag}),
            await alice.get(f"/v1/scenarios/{uuid4()}"),
            await alice.post("/v1/scenarios", json={"name": "a"}, headers=key),
            await alice.post("/v1/scenarios", json={"name": "a"}, headers=key),
        ]

        assert [response.status_code for response in responses] == [304, 404, 201, 201]
        assert [response.headers["ratelimit"] for response in responses] == [
            '"reads";r=1;t=60',
            '"reads";r=0;t=60',
            '"writes";r=1;t=60',
            '"writes";r=0;t=60',
        ]

    async def test_who_is_not_known_is_not_counted(self, nobody: httpx.AsyncClient):
        responses = [await nobody.get("/v1/scenarios") for _ in range(10)]

        assert {response.status_code for response in responses} == {401}
        assert not any("ratelimit" in response.headers for response in responses)

    async def test_health_is_not_limited(self, nobody: httpx.AsyncClient):
        assert {(await nobody.get("/livez")).status_code for _ in range(10)} == {200}


class TestSettings:
    async def test_limits_can_be_switched_off(self, settings: Settings, clock: list[float], users: dict[str, User]):
        async with (
            limited(settings, clock, reads=1, enabled=False) as app,
            client_of(app, token_for(users["alice"].external_id)) as client,
        ):
            responses = [await client.get("/v1/scenarios") for _ in range(5)]

        assert {response.status_code for response in responses} == {200}
        assert not any("ratelimit" in response.headers for response in responses)

    async def test_a_storage_that_is_away_stops_nobody(
        self, settings: Settings, clock: list[float], users: dict[str, User]
    ):
        async with (
            limited(settings, clock, reads=1, storage_url="redis://127.0.0.1:1") as app,
            client_of(app, token_for(users["alice"].external_id)) as client,
        ):
            assert {(await client.get("/v1/scenarios")).status_code for _ in range(5)} == {200}

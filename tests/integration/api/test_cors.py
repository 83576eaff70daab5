"""Which web pages may use the API from a browser."""

from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from fastapi import FastAPI

from api.cors import RESPONSE_HEADERS, CorsSettings
from api.openapi import HEADERS
from api.settings import Settings
from shared.queue.memory import MemoryQueue
from tests.integration.api.clients import running_app

PAGE = {"Origin": "https://app.example.com"}
STRANGER = {"Origin": "https://evil.example.com"}
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,idempotency-key"}


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    cors = CorsSettings.model_validate({"origins": "https://app.example.com, http://localhost:5173"})
    async with running_app(replace(settings, cors=cors), MemoryQueue()) as app:
        yield app


def allowed_origin(response: httpx.Response) -> str | None:
    origin: str | None = response.headers.get("access-control-allow-origin")
    return origin


class TestAnswers:
    async def test_a_listed_page_may_read_them(self, alice: httpx.AsyncClient):
        response = await alice.get("/v1/notifications", headers=PAGE)

        assert allowed_origin(response) == PAGE["Origin"]
        assert "access-control-allow-credentials" not in response.headers
        assert response.headers["vary"] == "Authorization, Origin"

    async def test_every_header_of_ours_may_be_read(self, alice: httpx.AsyncClient):
        exposed = (await alice.get("/v1/scenarios", headers=PAGE)).headers["access-control-expose-headers"].split(", ")

        assert set(exposed) == set(RESPONSE_HEADERS)
        # Browsers show Cache-Control without being told, and keep Vary for themselves.
        assert set(exposed) == HEADERS.keys() - {"Cache-Control", "Vary"}

    @pytest.mark.parametrize("headers", [STRANGER, {"Origin": "null"}, {"Origin": "https://app.example.com.evil"}, {}])
    async def test_no_other_page_may(self, alice: httpx.AsyncClient, headers: dict[str, str]):
        response = await alice.get("/v1/scenarios", headers=headers)

        assert allowed_origin(response) is None
        assert "Origin" in response.headers["vary"]

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/v1/scenarios", 401),
            ("GET", "/nowhere", 404),
            ("PATCH", "/v1/scenarios", 405),
            ("POST", "/v1/scenarios", 413),
            ("POST", "/v1/scenarios", 415),
        ],
    )
    async def test_problems_may_be_read_too(self, nobody: httpx.AsyncClient, method: str, path: str, status: int):
        body = b"x" * (300_000 if status == 413 else 1) if method == "POST" else b""

        response = await nobody.request(method, path, headers=PAGE, content=body)

        assert (response.status_code, allowed_origin(response)) == (status, PAGE["Origin"])
        assert response.json()["request_id"] == response.headers["x-request-id"]

    async def test_even_those_that_nobody_expected(
        self, app: FastAPI, nobody: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ):
        async def fail() -> None:
            raise RuntimeError

        monkeypatch.setattr(app.state.runtime.readiness, "report", fail)

        response = await nobody.get("/readyz", headers=PAGE)

        assert (response.status_code, allowed_origin(response)) == (500, PAGE["Origin"])
        assert response.json()["code"] == "internal_error"


class TestPreflight:
    async def test_a_listed_page_is_told_what_it_may_do(self, nobody: httpx.AsyncClient):
        response = await nobody.options("/v1/scenarios", headers={**PAGE, **PREFLIGHT})

        assert (response.status_code, response.content) == (204, b"")
        assert allowed_origin(response) == PAGE["Origin"]
        assert response.headers["access-control-allow-methods"] == "GET, POST, PUT, DELETE"
        allowed = response.headers["access-control-allow-headers"].lower().split(", ")
        assert {"authorization", "content-type", "idempotency-key", "if-none-match"} <= set(allowed)
        assert int(response.headers["access-control-max-age"]) > 0
        assert "x-request-id" in response.headers

    async def test_no_other_page_is(self, nobody: httpx.AsyncClient):
        response = await nobody.options("/v1/scenarios", headers={**STRANGER, **PREFLIGHT})

        assert (response.status_code, response.content, allowed_origin(response)) == (204, b"", None)

    @pytest.mark.parametrize(
        "asked",
        [{"Access-Control-Request-Method": "PATCH"}, {**PREFLIGHT, "Access-Control-Request-Headers": "cookie"}],
    )
    async def test_what_else_a_page_asks_for_is_not_in_the_lists(
        self, nobody: httpx.AsyncClient, asked: dict[str, str]
    ):
        response = await nobody.options("/v1/scenarios", headers={**PAGE, **asked})

        assert response.status_code == 204
        assert "PATCH" not in response.headers["access-control-allow-methods"]
        assert "cookie" not in response.headers["access-control-allow-headers"].lower()


async def test_without_origins_no_page_is_known(settings: Settings):
    async with running_app(replace(settings, cors=CorsSettings()), MemoryQueue()) as app:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            answer = await client.get("/v1/scenarios", headers=PAGE)
            preflight = await client.options("/v1/scenarios", headers={**PAGE, **PREFLIGHT})

    assert (answer.status_code, allowed_origin(answer)) == (401, None)
    assert (preflight.status_code, allowed_origin(preflight)) == (405, None)

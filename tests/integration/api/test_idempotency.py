"""Requests that carry an idempotency key: carried out once, answered as often as they come."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from structlog.testing import capture_logs

from api.callers import Caller
from api.idempotency import repository
from api.settings import Settings
from shared.models import Event, IdempotencyKey, Tenant, TestScenario, User
from shared.queue.memory import MemoryQueue
from tests.factories import make_event, make_notification, make_scenario
from tests.integration.api.clients import OpenClient, client_of, running_app, token_for

Sessions = async_sessionmaker[AsyncSession]

KEY = {"Idempotency-Key": "019a2f3e-7c1b-7d52-9a40-3b6f0c7f1e55"}
BODY = {"name": "Checkout", "labels": ["shop"]}


async def create(client: httpx.AsyncClient, key: str | None = KEY["Idempotency-Key"], **body: Any) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await client.post("/v1/scenarios", json=body or BODY, headers=headers)


async def count(sessions: Sessions, model: type[TestScenario | Event | IdempotencyKey]) -> int:
    async with sessions() as session:
        # Of the caller's tenant: the other one has rows of its own in every test.
        ours = sa.select(Tenant.id).where(Tenant.slug == "demo").scalar_subquery()
        return await session.scalar(sa.select(sa.func.count()).where(model.tenant_id == ours)) or 0


def is_replayed(response: httpx.Response) -> bool:
    return bool(response.headers.get("idempotent-replayed") == "true")


@pytest.fixture
async def impatient(settings: Settings, users: dict[str, User]) -> AsyncIterator[httpx.AsyncClient]:
    """Alice's client of an api that waits for no lock longer than 50 ms."""
    database = settings.database.model_copy(update={"lock_timeout": timedelta(milliseconds=50)})
    async with (
        running_app(replace(settings, database=database), MemoryQueue()) as app,
        client_of(app, token_for(users["alice"].external_id)) as client,
    ):
        yield client


class TestRepeat:
    async def test_it_gets_the_same_answer_and_changes_nothing(self, alice: httpx.AsyncClient, sessions: Sessions):
        first, second = await create(alice), await create(alice)

        assert first.status_code == second.status_code == 201
        assert first.content == second.content
        assert first.headers["location"] == second.headers["location"]
        assert first.headers["content-type"] == second.headers["content-type"]
        assert "idempotent-replayed" not in first.headers
        assert second.headers["idempotent-replayed"] == "true"
        assert await count(sessions, TestScenario) == await count(sessions, Event) == 1

    async def test_every_post_is_answered_once(
        self, bob: httpx.AsyncClient, sessions: Sessions, users: dict[str, User]
    ):
        async with sessions.begin() as session:
            scenario = await make_scenario(session, users["alice"])
            event = await make_event(session, scenario, users["alice"])
            await make_notification(session, users["bob"], event)
        requests: list[tuple[str, dict[str, Any]]] = [
            ("/v1/scenarios", BODY),
            (f"/v1/scenarios/{scenario.id}/executions", {"outcome": "passed"}),
            ("/v1/notifications/seen", {"up_to": str(event.id)}),
            ("/v1/notifications/read", {"up_to": str(event.id)}),
        ]

        for number, (path, body) in enumerate(requests):
            key = {"Idempotency-Key": str(number)}
            first, second = [await bob.post(path, json=body, headers=key) for _ in range(2)]

            assert first.is_success
            assert first.content == second.content
            assert [is_replayed(first), is_replayed(second)] == [False, True]

    async def test_a_body_that_was_left_out_is_a_body_too(
        self, alice: httpx.AsyncClient, sessions: Sessions, users: dict[str, User]
    ):
        async with sessions.begin() as session:
            scenario = await make_scenario(session, users["alice"])
        url = f"/v1/scenarios/{scenario.id}/executions"

        first, second = [await alice.post(url, headers=KEY) for _ in range(2)]

        assert first.content == second.content
        assert is_replayed(second)

    @pytest.mark.timeout(180)
    async def test_a_thousand_repeats_find_one_scenario(self, alice: httpx.AsyncClient, sessions: Sessions):
        responses = []
        for _ in range(50):
            responses += await asyncio.gather(*(create(alice) for _ in range(20)))

        assert len(responses) == 1000
        assert {(response.status_code, response.content) for response in responses} == {(201, responses[0].content)}
        assert [is_replayed(response) for response in responses].count(False) == 1
        assert await count(sessions, TestScenario) == await count(sessions, Event) == 1

    async def test_the_layout_of_the_body_does_not_matter(self, alice: httpx.AsyncClient):
        texts = [b'{"name":"Checkout","labels":["shop"]}', b'{ "labels": ["sh\\u006fp"],\n "name": "Checkout" }']

        first, second = [
            await alice.post("/v1/scenarios", content=text, headers={**KEY, "Content-Type": "application/json"})
            for text in texts
        ]

        assert first.content == second.content
        assert is_replayed(second)

    async def test_without_a_key_every_request_counts(self, alice: httpx.AsyncClient, sessions: Sessions):
        for _ in range(2):
            await create(alice, key=None)

        assert await count(sessions, TestScenario) == 2
        assert await count(sessions, IdempotencyKey) == 0

    async def test_an_expired_key_is_as_good_as_new(self, alice: httpx.AsyncClient, sessions: Sessions):
        first = await create(alice)
        async with sessions.begin() as session:
            await session.execute(sa.update(IdempotencyKey).values(expires_at=sa.func.now()))

        second, third = await create(alice, name="Other"), await create(alice, name="Other")

        assert first.json()["id"] != second.json()["id"] == third.json()["id"]
        assert [is_replayed(response) for response in (first, second, third)] == [False, False, True]
        assert await count(sessions, IdempotencyKey) == 1

    async def test_an_answer_is_kept_for_a_day(self, alice: httpx.AsyncClient, sessions: Sessions):
        await create(alice)

        async with sessions() as session:
            [kept] = await session.scalars(sa.select(IdempotencyKey))
        assert kept.expires_at - kept.created_at == timedelta(hours=24)
        assert (kept.status, len(kept.fingerprint)) == (201, 32)


class TestReuse:
    async def test_a_key_belongs_to_one_body(self, alice: httpx.AsyncClient, sessions: Sessions):
        await create(alice)

        response = await create(alice, name="Other")

        assert response.status_code == 422
        assert response.json()["code"] == "idempotency_key_reused"
        assert await count(sessions, TestScenario) == 1

    @pytest.mark.parametrize("path", ["/v1/notifications/read", "/v1/scenarios?again=1"])
    async def test_and_to_one_address(self, alice: httpx.AsyncClient, path: str):
        await create(alice)

        response = await alice.post(path, json={**BODY, "up_to": "x"} if "read" in path else BODY, headers=KEY)

        assert response.json()["code"] == "idempotency_key_reused"

    async def test_and_to_one_caller(
        self, alice: httpx.AsyncClient, bob: httpx.AsyncClient, mallory: httpx.AsyncClient, sessions: Sessions
    ):
        responses = [await create(client) for client in (alice, bob, mallory)]

        assert not any(is_replayed(response) for response in responses)
        assert len({response.json()["id"] for response in responses}) == 3
        assert await count(sessions, IdempotencyKey) == 2  # The third is in the other tenant.

    async def test_a_new_user_may_begin_with_a_key(self, open_client: OpenClient, users: dict[str, User]):
        async with open_client(token_for("carol", "demo")) as carol:
            first, second = await create(carol), await create(carol)

        assert "carol" not in users
        assert first.content == second.content


class TestSimultaneous:
    @pytest.mark.parametrize("times", [2, 10])
    async def test_one_is_carried_out_and_the_others_hear_of_it(
        self, alice: httpx.AsyncClient, sessions: Sessions, times: int
    ):
        responses = await asyncio.gather(*(create(alice) for _ in range(times)))

        assert {(response.status_code, response.content) for response in responses} == {(201, responses[0].content)}
        assert [is_replayed(response) for response in responses].count(False) == 1
        assert await count(sessions, TestScenario) == await count(sessions, Event) == 1

    async def test_so_it_is_with_two_processes(self, app: FastAPI, settings: Settings, sessions: Sessions, users):
        token = token_for(users["alice"].external_id)

        async with (
            running_app(settings, MemoryQueue()) as other,
            client_of(app, token) as here,
            client_of(other, token) as there,
        ):
            responses = await asyncio.gather(*(create(client) for client in (here, there) * 5))

        assert len({response.content for response in responses}) == 1
        assert await count(sessions, TestScenario) == await count(sessions, Event) == 1

    async def test_another_request_with_the_key_is_refused_whoever_comes_first(
        self, alice: httpx.AsyncClient, sessions: Sessions
    ):
        responses = await asyncio.gather(create(alice, name="One"), create(alice, name="Other"))

        assert sorted(response.status_code for response in responses) == [201, 422]
        assert await count(sessions, TestScenario) == 1

    async def test_who_cannot_wait_longer_is_told_so(
        self, impatient: httpx.AsyncClient, sessions: Sessions, users: dict[str, User]
    ):
        me = Caller(users["alice"].tenant_id, users["alice"].id)

        async with sessions() as session:
            assert await repository.claim_key(me, session, KEY["Idempotency-Key"], b"another request, under way")
            during = await create(impatient)
            await session.rollback()
        after = await create(impatient)

        assert (during.status_code, during.json()["code"]) == (409, "idempotency_key_in_use")
        assert during.headers["retry-after"] == "1"
        assert (after.status_code, is_replayed(after)) == (201, False)


class TestFailure:
    async def test_invalid_input_can_be_corrected(self, alice: httpx.AsyncClient, sessions: Sessions):
        wrong = await create(alice, name="")
        right = await create(alice)

        assert [wrong.status_code, right.status_code] == [422, 201]
        assert await count(sessions, IdempotencyKey) == 1

    async def test_what_was_not_found_may_be_there_later(self, alice: httpx.AsyncClient, sessions: Sessions):
        url = "/v1/scenarios/019a2f3e-7c1b-7d52-9a40-3b6f0c7f1e55/executions"

        responses = [await alice.post(url, headers=KEY) for _ in range(2)]

        assert [response.status_code for response in responses] == [404, 404]
        assert not any(is_replayed(response) for response in responses)
        assert await count(sessions, IdempotencyKey) == 0

    async def test_what_was_unavailable_is_carried_out_by_the_retry(
        self, impatient: httpx.AsyncClient, sessions: Sessions, users: dict[str, User]
    ):
        async with sessions.begin() as session:
            scenario = await make_scenario(session, users["alice"])
        url = f"/v1/scenarios/{scenario.id}/executions"

        async with sessions.begin() as session:
            await session.get(TestScenario, (scenario.tenant_id, scenario.id), with_for_update=True)
            during = await impatient.post(url, headers=KEY)
        after = await impatient.post(url, headers=KEY)

        assert [during.status_code, after.status_code] == [503, 201]
        assert await count(sessions, Event) == 1

    async def test_a_bug_leaves_no_key(
        self, alice: httpx.AsyncClient, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
    ):
        async def fail(*_args: object) -> None:
            raise RuntimeError

        with monkeypatch.context() as patch, capture_logs():
            patch.setattr(repository, "record_answer", fail)
            during = await create(alice)
        assert await count(sessions, IdempotencyKey) == await count(sessions, TestScenario) == 0
        after = await create(alice)

        assert [during.status_code, after.status_code] == [500, 201]

    async def test_a_crash_before_the_commit_leaves_neither_change_nor_key(
        self, alice: httpx.AsyncClient, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
    ):
        async def record_and_break(me: Caller, session: AsyncSession, key: str, answer: repository.Answer) -> None:
            await record_answer(me, session, key, answer)
            backend = await session.scalar(sa.text("SELECT pg_backend_pid()"))
            async with sessions() as other:
                await other.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": backend})

        record_answer = repository.record_answer
        with monkeypatch.context() as patch:
            patch.setattr(repository, "record_answer", record_and_break)
            during = await create(alice)
        left = [await count(sessions, model) for model in (TestScenario, Event, IdempotencyKey)]
        after = await create(alice)

        assert during.status_code == 503
        assert left == [0, 0, 0]
        assert (after.status_code, is_replayed(after)) == (201, False)
        assert await count(sessions, TestScenario) == await count(sessions, Event) == 1

    async def test_an_answer_lost_after_the_commit_is_given_to_the_retry(
        self, app: FastAPI, alice: httpx.AsyncClient, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
    ):
        def fail() -> None:
            raise RuntimeError

        with monkeypatch.context() as patch, capture_logs():
            patch.setattr(app.state.runtime.relay, "wake", fail)
            lost = await create(alice)
        found = await create(alice)

        assert lost.status_code == 500
        assert (found.status_code, is_replayed(found)) == (201, True)
        assert await count(sessions, TestScenario) == await count(sessions, Event) == 1


class TestKey:
    @pytest.mark.parametrize("key", ["x", "x" * 255, '"8e03978e"', "!~", "a,b;c=d"])
    async def test_visible_ascii_is_a_key(self, alice: httpx.AsyncClient, key: str):
        first, second = await create(alice, key=key), await create(alice, key=key)

        assert first.status_code == 201
        assert is_replayed(second)

    @pytest.mark.parametrize("key", [b"", b"x" * 256, b"a b", b"a\tb", b"a\x7f", "ä".encode(), b"\xff"])
    async def test_anything_else_is_invalid(self, alice: httpx.AsyncClient, sessions: Sessions, key: bytes):
        response = await alice.post("/v1/scenarios", json=BODY, headers=[(b"Idempotency-Key", key)])

        assert response.status_code == 422
        assert [error["pointer"] for error in response.json()["errors"]] == ["Idempotency-Key"]
        assert await count(sessions, TestScenario) == 0

    async def test_two_of_them_are_one_too_many(self, alice: httpx.AsyncClient, sessions: Sessions):
        keys = [(b"Idempotency-Key", b"a"), (b"Idempotency-Key", b"b")]

        response = await alice.post("/v1/scenarios", json=BODY, headers=keys)

        assert (response.status_code, response.json()["code"]) == (400, "malformed_request")
        assert await count(sessions, TestScenario) == 0

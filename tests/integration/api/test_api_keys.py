"""How programs come in: their keys' life, and what they may do."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from api import api_keys as module
from api.api_keys import ApiKeyVerifier
from api.problems import InvalidToken
from shared.clock import utc_now
from shared.models import ApiKey, Tenant
from tests.factories import make_api_key
from tests.integration.api.clients import OpenClient, client_of, token_for

Sessions = async_sessionmaker[AsyncSession]
MakeKey = Callable[..., Awaitable[tuple[ApiKey, str]]]

USER = {"name": "Alice"}
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


class FakeClock:
    """Both clocks of the verifier, standing still until moved."""

    def __init__(self) -> None:
        self.now = NOON

    def pass_by(self, duration: timedelta) -> None:
        self.now += duration

    def wall(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.now.timestamp()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def verifier(clock: FakeClock) -> ApiKeyVerifier:
    return ApiKeyVerifier(clock=clock.wall, monotonic=clock.monotonic)


@pytest.fixture
async def session(sessions: Sessions) -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


@pytest.fixture
def make_key(sessions: Sessions, tenants: dict[str, Tenant]) -> MakeKey:
    async def make(*scopes: str, expires_at: datetime | None = None) -> tuple[ApiKey, str]:
        async with sessions.begin() as session:
            return await make_api_key(session, tenants["demo"], *scopes, expires_at=expires_at)

    return make


async def revoke(sessions: Sessions, key: ApiKey) -> None:
    async with sessions.begin() as session:
        (await session.get_one(ApiKey, (key.tenant_id, key.id))).revoke(actor="a test", at=utc_now())


async def read(sessions: Sessions, key: ApiKey) -> ApiKey:
    async with sessions() as session:
        return await session.get_one(ApiKey, (key.tenant_id, key.id))


class TestKey:
    async def test_only_its_digest_is_stored(self, make_key: MakeKey, engine: AsyncEngine):
        key, text = await make_key("users:write")

        async with engine.connect() as connection:
            row = str((await connection.execute(sa.text("SELECT * FROM api_keys"))).one())

        assert re.fullmatch(r"nsk_[a-z0-9]{12}_[A-Za-z0-9_-]{43}", text)
        assert text.startswith(f"nsk_{key.prefix}_")
        assert key.prefix in row
        assert text.rpartition(f"{key.prefix}_")[2] not in row

    async def test_no_two_are_alike(self, make_key: MakeKey):
        texts = [(await make_key())[1] for _ in range(20)]

        assert len({text[:16] for text in texts}) == len({text[17:] for text in texts}) == 20


class TestVerify:
    async def test_a_key_names_its_program(self, verifier: ApiKeyVerifier, session: AsyncSession, make_key: MakeKey):
        key, text = await make_key("users:write")

        program = await verifier.verify(session, text)

        assert (program.tenant_id, program.key_id, program.scopes) == (
            key.tenant_id,
            key.id,
            frozenset({"users:write"}),
        )

    async def test_anything_else_is_refused(
        self, verifier: ApiKeyVerifier, session: AsyncSession, make_key: MakeKey, sessions: Sessions
    ):
        key, text = await make_key("users:write")
        _, other = await make_key("users:write")
        revoked, of_revoked = await make_key("users:write")
        await revoke(sessions, revoked)
        _, of_expired = await make_key("users:write", expires_at=NOON)

        for wrong in (
            "nsk_",
            "nsk_" + "a" * 12,
            text[:-1],
            text + "A",
            text[:-1] + ("A" if text[-1] != "A" else "B"),
            text[:17] + other[17:],
            text.upper(),
            text.replace("nsk_", "NSK_"),
            f"nsk_{key.prefix}_{key.key_hash.hex()}",
            f"nsk_{key.prefix}_{'A' * 43}",
            f"nsk_{'%' * 12}_{'A' * 43}",
            text + "\n",
            text + "\x00",
            of_revoked,
            of_expired,
        ):
            with pytest.raises(InvalidToken):
                await verifier.verify(session, wrong)

    async def test_a_key_ends_at_its_time_even_if_remembered(
        self, verifier: ApiKeyVerifier, session: AsyncSession, make_key: MakeKey, clock: FakeClock
    ):
        _, text = await make_key(expires_at=NOON + timedelta(seconds=3))
        await verifier.verify(session, text)
        clock.pass_by(timedelta(seconds=2))
        await verifier.verify(session, text)

        clock.pass_by(timedelta(seconds=1))

        with pytest.raises(InvalidToken):
            await verifier.verify(session, text)

    async def test_a_revoked_key_works_no_longer_than_it_is_remembered(
        self, verifier: ApiKeyVerifier, session: AsyncSession, make_key: MakeKey, sessions: Sessions, clock: FakeClock
    ):
        key, text = await make_key()
        await verifier.verify(session, text)
        await revoke(sessions, key)

        clock.pass_by(module.REMEMBERED_FOR - timedelta(milliseconds=1))
        await verifier.verify(session, text)
        clock.pass_by(timedelta(milliseconds=1))

        session.expire_all()
        with pytest.raises(InvalidToken):
            await verifier.verify(session, text)
        assert timedelta(0) < module.REMEMBERED_FOR <= timedelta(seconds=30)

    async def test_use_does_not_prolong_what_is_remembered(
        self, verifier: ApiKeyVerifier, session: AsyncSession, make_key: MakeKey, sessions: Sessions, clock: FakeClock
    ):
        key, text = await make_key()
        await verifier.verify(session, text)
        await revoke(sessions, key)
        session.expire_all()

        for _ in range(int(module.REMEMBERED_FOR.total_seconds())):
            await verifier.verify(session, text)
            clock.pass_by(timedelta(seconds=1))

        with pytest.raises(InvalidToken):
            await verifier.verify(session, text)

    async def test_a_remembered_key_asks_nothing_of_the_database(
        self, verifier: ApiKeyVerifier, sessions: Sessions, make_key: MakeKey, engine: AsyncEngine
    ):
        _, text = await make_key()
        async with sessions() as session:
            await verifier.verify(session, text)
        await engine.dispose()

        async with sessions() as session:
            await verifier.verify(session, text)

            assert not session.in_transaction()

    async def test_memory_is_bounded(
        self, verifier: ApiKeyVerifier, session: AsyncSession, make_key: MakeKey, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(module, "MAX_REMEMBERED", 3)
        texts = [(await make_key())[1] for _ in range(5)]

        for text in texts:
            await verifier.verify(session, text)

        assert len(verifier._remembered) == 3


class TestUse:
    async def test_it_is_written_down_at_most_once_a_minute(
        self, verifier: ApiKeyVerifier, make_key: MakeKey, sessions: Sessions, clock: FakeClock
    ):
        key, text = await make_key()
        seen = []

        for _ in range(121):
            async with sessions() as session:
                await verifier.verify(session, text)
            seen.append((await read(sessions, key)).last_used_at)
            clock.pass_by(timedelta(seconds=1))

        assert sorted(set(seen), key=str) == [NOON, NOON + timedelta(minutes=1), NOON + timedelta(minutes=2)]

    async def test_nobody_waits_for_whoever_holds_the_row(
        self, verifier: ApiKeyVerifier, make_key: MakeKey, sessions: Sessions
    ):
        key, text = await make_key()
        async with sessions() as holder:
            await holder.execute(sa.select(ApiKey).where(ApiKey.id == key.id).with_for_update())

            async with asyncio.timeout(1), sessions() as session:
                await verifier.verify(session, text)

        assert (await read(sessions, key)).last_used_at is None


class TestScopes:
    async def test_a_key_without_the_scope_is_refused(self, open_client: OpenClient, make_key: MakeKey):
        for scopes in ((), ("users:read",), ("users",), ("*",)):
            async with open_client((await make_key(*scopes))[1]) as program:
                response = await program.put("/v1/users/alice", json=USER)

            assert (response.status_code, response.json()["code"]) == (403, "insufficient_scope")
            assert "users:write" in response.json()["detail"]
            assert response.headers["www-authenticate"] == 'Bearer error="insufficient_scope"'

    async def test_scopes_that_are_no_longer_known_do_no_harm(self, open_client: OpenClient, make_key: MakeKey):
        async with open_client((await make_key("users:write", "of:yesterday"))[1]) as program:
            assert (await program.put("/v1/users/alice", json=USER)).status_code == 201

    async def test_a_person_cannot_do_what_is_for_programs(self, alice: httpx.AsyncClient):
        response = await alice.put("/v1/users/alice", json={"name": "Somebody else"})

        assert (response.status_code, response.json()["code"]) == (403, "api_key_required")

    async def test_a_program_cannot_do_what_is_for_people(self, app: FastAPI, program: httpx.AsyncClient):
        operations = [
            (method, re.sub("{[a-z_]+}", "1", path))
            for path, methods in app.openapi()["paths"].items()
            for method, operation in methods.items()
            if {"bearerAuth": []} in operation["security"]
        ]

        assert len(operations) > 20
        for method, path in operations:
            response = await program.request(method, path)
            assert (method, path, response.json().get("code")) == (method, path, "user_token_required")
            assert response.status_code == 403

    @pytest.mark.usefixtures("tenants")
    @pytest.mark.parametrize("path", ["/v1/preferences", "/v1/users/alice"])
    async def test_a_bad_credential_is_refused_as_such_everywhere(self, app: FastAPI, path: str):
        for credential in (f"nsk_{'a' * 12}_{'A' * 43}", "nsk_", "nsk_x", token_for("alice", exp=1), "nonsense"):
            async with client_of(app, credential) as client:
                response = await client.put(path, json=USER)

            assert (response.status_code, response.json()["code"]) == (401, "invalid_token")
            assert response.headers["www-authenticate"] == 'Bearer error="invalid_token"'

    async def test_the_key_is_in_no_log(
        self, program: httpx.AsyncClient, api_keys: dict[str, str], capfd: pytest.CaptureFixture[str]
    ):
        await program.put("/v1/users/alice", json=USER)
        await program.get("/v1/preferences")

        output = "".join(capfd.readouterr())
        assert "request.handled" in output
        assert api_keys["demo"][17:] not in output


class TestAudit:
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE api_key_audit_entries SET actor = 'nobody'",
            "DELETE FROM api_key_audit_entries",
            "TRUNCATE api_key_audit_entries",
            "DELETE FROM api_keys",
        ],
    )
    async def test_it_cannot_be_changed(self, make_key: MakeKey, sessions: Sessions, statement: str):
        await make_key()

        async with sessions() as session:
            with pytest.raises(DBAPIError, match=r"only added to|violates foreign key"):
                await session.execute(sa.text(statement))

    async def test_revoking_twice_is_one_entry(self, make_key: MakeKey, sessions: Sessions):
        key, _ = await make_key()

        await revoke(sessions, key)
        first = (await read(sessions, key)).revoked_at
        await revoke(sessions, key)

        async with sessions() as session:
            actions = await session.scalars(sa.text("SELECT action FROM api_key_audit_entries ORDER BY id"))
            assert list(actions) == ["created", "revoked"]
        assert (await read(sessions, key)).revoked_at == first

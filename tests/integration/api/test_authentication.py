"""Who may come in, and as whom."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from joserfc.jwk import ECKey
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from api.jwks import PAUSE_AFTER_FAILURE
from api.settings import JwtSettings, Settings
from shared.models import Tenant, User
from shared.queue.memory import MemoryQueue
from tests.fakes.key_server import run_key_server, sign
from tests.integration.api.clients import OpenClient, client_of, running_app, token_for

Sessions = async_sessionmaker[AsyncSession]

NOTE_WRITES = [
    "CREATE TABLE writes ()",
    """CREATE FUNCTION note_write() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO writes DEFAULT VALUES; RETURN NULL; END $$""",
    "CREATE TRIGGER note_write AFTER INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION note_write()",
]
CountWrites = Callable[[], Awaitable[int]]

pytestmark = pytest.mark.usefixtures("tenants")


async def all_users(sessions: Sessions) -> list[User]:
    async with sessions() as session:
        return list(await session.scalars(sa.select(User)))


@pytest.fixture
async def count_writes(engine: AsyncEngine) -> CountWrites:
    """Tells how many rows of users were written; a trigger sees what no statement shows."""
    async with engine.begin() as connection:
        for statement in NOTE_WRITES:
            await connection.execute(sa.text(statement))
        # The trigger runs with the rights of whoever writes, and that is the api.
        await connection.execute(sa.text("GRANT INSERT ON writes TO PUBLIC"))

    async def count() -> int:
        async with engine.connect() as connection:
            return int((await connection.execute(sa.text("SELECT count(*) FROM writes"))).scalar_one())

    return count


class TestFirstSight:
    async def test_an_unknown_user_is_created_from_the_claims(
        self, open_client: OpenClient, sessions: Sessions, tenants: dict[str, Tenant]
    ):
        token = token_for("eve", name="Eve Example", email="eve@example.com", locale="en-GB")

        async with open_client(token) as eve:
            assert (await eve.get("/v1/preferences")).status_code == 200

        [user] = await all_users(sessions)
        assert (user.tenant_id, user.external_id) == (tenants["demo"].id, "eve")
        assert (user.name, user.email, user.locale) == ("Eve Example", "eve@example.com", "en-GB")

    async def test_claims_that_cannot_be_used_are_left_out(self, open_client: OpenClient, sessions: Sessions):
        token = token_for("eve", name="E\x00ve", email=["eve@example.com"], locale="x" * 36)

        async with open_client(token) as eve:
            assert (await eve.get("/v1/preferences")).status_code == 200

        [user] = await all_users(sessions)
        assert (user.name, user.email, user.locale) == ("eve", None, None)

    async def test_many_first_requests_create_one_user(self, open_client: OpenClient, sessions: Sessions):
        async with open_client(token_for("eve")) as eve:
            responses = await asyncio.gather(*(eve.get("/v1/preferences") for _ in range(10)))

        assert {response.status_code for response in responses} == {200}
        assert len(await all_users(sessions)) == 1

    async def test_the_user_exists_even_if_the_first_request_fails(self, open_client: OpenClient, sessions: Sessions):
        async with open_client(token_for("eve")) as eve:
            assert (await eve.get("/v1/notifications/none")).status_code == 404

        assert len(await all_users(sessions)) == 1

    async def test_the_first_request_may_write(self, open_client: OpenClient):
        async with open_client(token_for("eve")) as eve:
            assert (await eve.post("/v1/scenarios", json={"name": "Checkout"})).status_code == 201
            assert (await eve.put("/v1/preferences", json={"notify_self": True})).status_code == 200


class TestKeyServer:
    async def test_tokens_of_a_key_server_are_believed_once_it_has_answered(
        self, settings: Settings, queue: MemoryQueue, sessions: Sessions
    ):
        key = ECKey.generate_key("P-256", {"kid": "1"})
        claims = {"iss": "issuer", "aud": "audience", "sub": "eve", "tenant": "demo", "exp": 2**33}
        async with run_key_server(key) as server:
            server.status = 503
            jwt = {"jwt_jwks_url": server.url, "jwt_issuer": "issuer", "jwt_audience": "audience"}
            settings = replace(settings, jwt=JwtSettings.model_validate(jwt))
            async with running_app(settings, queue) as app, client_of(app, sign(claims, key, "ES256")) as eve:
                early = await eve.get("/v1/preferences")
                server.status = 200
                await asyncio.sleep(PAUSE_AFTER_FAILURE.total_seconds())
                later = await eve.get("/v1/preferences")
                server.status = 503
                outage = await eve.get("/v1/preferences")

        assert (early.status_code, early.json()["code"]) == (503, "service_unavailable")
        assert early.headers["retry-after"] == "2"
        assert (later.status_code, outage.status_code) == (200, 200)
        assert [user.external_id for user in await all_users(sessions)] == ["eve"]


class TestNews:
    """What later tokens say of a user who is known."""

    NOW = int(datetime.now(UTC).timestamp())

    async def test_a_later_token_changes_what_it_names(self, open_client: OpenClient, sessions: Sessions):
        first = {"name": "Eve", "email": "eve@example.com", "locale": "en", "zoneinfo": "Europe/London"}
        later = {"name": "Eve Example", "email": "e@example.com", "locale": "pt_br", "zoneinfo": "America/Sao_Paulo"}
        await self.sign_in(open_client, token_for("eve", iat=self.NOW - 60, **first))

        await self.sign_in(open_client, token_for("eve", iat=self.NOW, **later))

        [user] = await all_users(sessions)
        assert (user.name, user.email, user.locale) == ("Eve Example", "e@example.com", "pt-BR")
        assert user.time_zone == "America/Sao_Paulo"
        assert user.updated_at > user.created_at

    async def test_the_request_that_brings_news_sees_them_and_may_write(
        self, open_client: OpenClient, sessions: Sessions
    ):
        await self.sign_in(open_client, token_for("eve", name="Eve", iat=self.NOW - 60))

        async with open_client(token_for("eve", name="Eve Example", iat=self.NOW)) as eve:
            assert (await eve.put("/v1/preferences", json={"notify_self": True})).status_code == 200

        [user] = await all_users(sessions)
        assert (user.name, user.notify_self) == ("Eve Example", True)

    async def test_what_a_token_does_not_say_is_not_forgotten(self, open_client: OpenClient, sessions: Sessions):
        await self.sign_in(open_client, token_for("eve", iat=self.NOW - 60, name="Eve", email="eve@example.com"))

        await self.sign_in(open_client, token_for("eve", iat=self.NOW, email="nonsense"))

        [user] = await all_users(sessions)
        assert (user.name, user.email) == ("Eve", "eve@example.com")

    async def test_an_older_token_changes_nothing(self, open_client: OpenClient, sessions: Sessions):
        await self.sign_in(open_client, token_for("eve", iat=self.NOW, name="New"))

        for token in (
            token_for("eve", name="Old", iat=self.NOW - 60),
            token_for("eve", name="Old", iat=self.NOW),
            token_for("eve", name="Of no time"),
        ):
            await self.sign_in(open_client, token)

        [user] = await all_users(sessions)
        assert user.name == "New"

    async def test_two_tokens_that_differ_do_not_take_turns(self, open_client: OpenClient, count_writes: CountWrites):
        tokens = [token_for("eve", iat=self.NOW - age, name=f"Eve {age}") for age in (60, 0)]
        for token in tokens:
            await self.sign_in(open_client, token)
        before = await count_writes()

        for _ in range(5):
            for token in tokens:
                await self.sign_in(open_client, token)

        assert await count_writes() == before

    async def test_a_request_asks_for_its_user_in_one_statement(self, open_client: OpenClient):
        token = token_for("eve", iat=self.NOW, name="Eve", email="eve@example.com")
        await self.sign_in(open_client, token)
        statements: list[str] = []

        def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            statements.append(statement)

        sa.event.listen(sa.Engine, "before_cursor_execute", note)
        try:
            await self.sign_in(open_client, token)
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", note)

        about_users = [statement for statement in statements if "users" in statement]
        assert len(about_users) == 1
        assert about_users[0].startswith("SELECT")

    async def test_of_many_requests_with_news_one_writes(
        self, open_client: OpenClient, sessions: Sessions, count_writes: CountWrites
    ):
        await self.sign_in(open_client, token_for("eve", iat=self.NOW - 60, name="Eve"))
        before = await count_writes()
        token = token_for("eve", iat=self.NOW, name="Eve Example")

        await asyncio.gather(*(self.sign_in(open_client, token) for _ in range(10)))

        assert await count_writes() == before + 1
        assert [user.name for user in await all_users(sessions)] == ["Eve Example"]

    async def test_of_many_tokens_the_latest_holds(self, open_client: OpenClient, sessions: Sessions):
        tokens = [token_for("eve", iat=self.NOW - age, name=f"Eve {age}") for age in range(10)]

        await asyncio.gather(*(self.sign_in(open_client, token) for token in tokens))

        assert [user.name for user in await all_users(sessions)] == ["Eve 0"]

    async def test_news_of_a_namesake_in_another_tenant_are_not_mine(
        self, open_client: OpenClient, sessions: Sessions, tenants: dict[str, Tenant]
    ):
        for tenant in ("demo", "other"):
            await self.sign_in(open_client, token_for("eve", tenant, iat=self.NOW - 60, name="Eve"))

        await self.sign_in(open_client, token_for("eve", "other", iat=self.NOW, name="Mallory"))

        names = {user.tenant_id: user.name for user in await all_users(sessions)}
        assert names == {tenants["demo"].id: "Eve", tenants["other"].id: "Mallory"}

    @staticmethod
    async def sign_in(open_client: OpenClient, token: str) -> None:
        async with open_client(token) as client:
            assert (await client.get("/v1/preferences")).status_code == 200


class TestTenant:
    async def test_slug_and_id_name_the_same_tenant(
        self, open_client: OpenClient, sessions: Sessions, tenants: dict[str, Tenant]
    ):
        for tenant in ("demo", str(tenants["demo"].id)):
            async with open_client(token_for("eve", tenant)) as eve:
                assert (await eve.get("/v1/preferences")).status_code == 200

        assert len(await all_users(sessions)) == 1

    async def test_the_same_sub_in_two_tenants_is_two_people(
        self, open_client: OpenClient, sessions: Sessions, tenants: dict[str, Tenant]
    ):
        for tenant in ("demo", "other"):
            async with open_client(token_for("eve", tenant)) as eve:
                await eve.put("/v1/preferences", json={"notify_self": tenant == "demo"})

        users = await all_users(sessions)
        assert {user.tenant_id: user.notify_self for user in users} == {
            tenants["demo"].id: True,
            tenants["other"].id: False,
        }

    @pytest.mark.parametrize("tenant", ["nowhere", "01a2046a-d51e-7728-a941-645a08c3b4ec", "DEMO"])
    async def test_one_that_does_not_exist_lets_nobody_in(
        self, open_client: OpenClient, sessions: Sessions, tenant: str
    ):
        async with open_client(token_for("eve", tenant)) as eve:
            response = await eve.get("/v1/preferences")

        assert (response.status_code, response.json()["code"]) == (401, "invalid_token")
        assert await all_users(sessions) == []


class TestRefusal:
    @pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic YTpi", "token"])
    async def test_without_a_token_the_caller_is_asked_for_one(self, nobody: httpx.AsyncClient, header: str):
        response = await nobody.get("/v1/preferences", headers={"Authorization": header} if header else {})

        assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")
        assert response.headers["www-authenticate"] == "Bearer"

    async def test_a_bad_token_is_refused_without_a_reason(self, open_client: OpenClient):
        told = []
        for token in ("nonsense", token_for("bob", exp=1), token_for("bob", aud="somebody else"), "\xff\xfe"):
            async with open_client("") as client:
                response = await client.get("/v1/preferences", headers=[(b"Authorization", f"Bearer {token}".encode())])
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == 'Bearer error="invalid_token"'
            told.append({**response.json(), "request_id": None})

        assert all(problem == told[0] for problem in told)

    async def test_every_versioned_route_asks_for_a_token(self, app: FastAPI, nobody: httpx.AsyncClient):
        operations = [
            (method, re.sub("{[a-z_]+}", "1", path))
            for path, methods in app.openapi()["paths"].items()
            for method in methods
            # The links in mails are for whoever has one.
            if "/unsubscribe/" not in path
        ]

        assert operations
        for method, path in operations:
            response = await nobody.request(method, path)
            assert (method, path, response.status_code) == (method, path, 401)

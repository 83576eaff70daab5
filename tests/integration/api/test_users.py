"""The endpoint of users."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.models import Tenant, User
from tests.integration.api.clients import OpenClient, client_of, token_for

Sessions = async_sessionmaker[AsyncSession]

PROFILE = {"name": "Eve", "email": "eve@example.com", "locale": "en-GB", "time_zone": "Europe/London"}
NOTHING_MORE = {"email": None, "locale": None, "time_zone": None}


async def find(sessions: Sessions, external_id: str) -> list[User]:
    async with sessions() as session:
        return list(await session.scalars(sa.select(User).where(User.external_id == external_id)))


class TestProvision:
    async def test_a_new_user_is_created(
        self, program: httpx.AsyncClient, sessions: Sessions, tenants: dict[str, Tenant]
    ):
        response = await program.put("/v1/users/eve", json=PROFILE)

        assert response.status_code == 201
        [user] = await find(sessions, "eve")
        body = response.json()
        assert body.pop("created_at") == body.pop("updated_at")
        assert body == {"id": str(user.id), "external_id": "eve", **PROFILE}
        assert user.tenant_id == tenants["demo"].id

    async def test_a_repetition_changes_nothing(self, program: httpx.AsyncClient, sessions: Sessions):
        first = await program.put("/v1/users/eve", json=PROFILE)
        second = await program.put("/v1/users/eve", json=PROFILE)

        assert (first.status_code, second.status_code) == (201, 200)
        assert {**first.json(), "updated_at": None} == {**second.json(), "updated_at": None}
        assert len(await find(sessions, "eve")) == 1

    async def test_what_is_left_out_is_forgotten(self, program: httpx.AsyncClient):
        await program.put("/v1/users/eve", json=PROFILE)

        response = await program.put("/v1/users/eve", json={"name": "Eve Example"})

        assert response.status_code == 200
        assert response.json() | NOTHING_MORE == response.json()
        assert response.json()["name"] == "Eve Example"

    async def test_a_person_who_is_known_stays_the_same(
        self, program: httpx.AsyncClient, alice: httpx.AsyncClient, users: dict[str, User]
    ):
        await alice.put("/v1/preferences", json={"notify_self": True})

        response = await program.put("/v1/users/alice", json=PROFILE)

        assert (response.status_code, response.json()["id"]) == (200, str(users["alice"].id))
        assert (await alice.get("/v1/preferences")).json() == {"notify_self": True}

    async def test_many_at_once_create_one_user(self, program: httpx.AsyncClient, sessions: Sessions):
        responses = await asyncio.gather(
            *(program.put("/v1/users/eve", json={**PROFILE, "name": f"Eve {n}"}) for n in range(10))
        )

        assert sorted(response.status_code for response in responses) == [200] * 9 + [201]
        assert len(await find(sessions, "eve")) == 1

    async def test_the_same_external_id_in_two_tenants_is_two_people(
        self, app: FastAPI, api_keys: dict[str, str], sessions: Sessions, tenants: dict[str, Tenant]
    ):
        for slug, key in api_keys.items():
            async with client_of(app, key) as program:
                assert (await program.put("/v1/users/eve", json={"name": f"Eve of {slug}"})).status_code == 201

        names = {user.tenant_id: user.name for user in await find(sessions, "eve")}
        assert names == {tenants["demo"].id: "Eve of demo", tenants["other"].id: "Eve of other"}

    async def test_a_provisioned_user_can_sign_in(
        self, program: httpx.AsyncClient, open_client: OpenClient, sessions: Sessions
    ):
        await program.put("/v1/users/eve", json=PROFILE)

        async with open_client(token_for("eve")) as eve:
            assert (await eve.get("/v1/preferences")).status_code == 200

        assert len(await find(sessions, "eve")) == 1

    async def test_the_latest_word_holds(self, program: httpx.AsyncClient, open_client: OpenClient, sessions: Sessions):
        await program.put("/v1/users/eve", json=PROFILE)
        now = datetime.now(UTC)

        for issued_at, name in ((now - timedelta(minutes=1), "Eve"), (now + timedelta(seconds=5), "Eve of the token")):
            async with open_client(token_for("eve", name="Eve of the token", iat=int(issued_at.timestamp()))) as eve:
                await eve.get("/v1/preferences")
            assert [user.name for user in await find(sessions, "eve")] == [name]


class TestExternalId:
    @pytest.mark.parametrize(
        "external_id", ["auth0|5f7c", "a/b/c", "ev@example.com", "Ève", "a b", "%", "x" * 255, "?", "+"]
    )
    async def test_whatever_a_token_can_hold_is_an_id(self, program: httpx.AsyncClient, external_id: str):
        response = await program.put(f"/v1/users/{quote(external_id, safe='')}", json=PROFILE)

        assert (response.status_code, response.json()["external_id"]) == (201, external_id)

    @pytest.mark.parametrize("address", ["%00", "%0A", "%20", "x" * 256, "%FF", "", "%7F"])
    async def test_what_no_token_can_hold_is_not_found(self, program: httpx.AsyncClient, address: str):
        response = await program.put(f"/v1/users/{address}", json=PROFILE)

        assert (response.status_code, response.json()["code"]) == (404, "user_not_found")


class TestInput:
    @pytest.mark.parametrize(
        ("member", "values"),
        [
            ("name", [None, "", " ", "x" * 201, "a\x00", "a\nb", 1, ["Eve"], "\ud800"]),
            ("email", ["", "eve", "eve@", "@example.com", "a@b@c", "a b@c", "a@b\r\nBcc: c@d", "<a@b>", "a@b,c@d",
                       "x" * 65 + "@b", "a@" + "x" * 256, 1, "a@\x00"]),
            ("locale", ["", "e", "en_GB", "en-", "-en", "en--GB", "english-language", "en-GB\n", "x" * 36, 1]),
            ("time_zone", ["", "Mars/Olympus_Mons", "europe/berlin", "UTC+1", "../../etc/passwd", "Europe", "x" * 65,
                           "Europe/Berlin\n", 1]),
            ("tenant_id", ["01a2046a-d51e-7728-a941-645a08c3b4ec"]),
            ("external_id", ["mallory"]),
        ],
    )  # fmt: skip
    async def test_what_is_not_right_is_named(
        self, program: httpx.AsyncClient, sessions: Sessions, member: str, values: list[Any]
    ):
        for value in values:
            # Escaped, so that halves of characters can be sent.
            body = json.dumps({**PROFILE, member: value})
            response = await program.put("/v1/users/eve", content=body, headers={"Content-Type": "application/json"})

            assert (value, response.status_code) == (value, 422)
            assert {error["pointer"] for error in response.json()["errors"]} == {f"#/{member}"}
        assert await find(sessions, "eve") == []

    @pytest.mark.parametrize(
        ("member", "given", "kept"),
        [
            ("name", "  Eve  ", "Eve"),
            ("email", "eve+tests@sub.example.com", "eve+tests@sub.example.com"),
            ("email", "ève@exämple.com", "ève@exämple.com"),
            ("locale", "EN-gb", "en-GB"),
            ("locale", "zh-hant-tw", "zh-Hant-TW"),
            ("locale", "de-ch-1996", "de-CH-1996"),
            ("locale", "sl-rozaj-biske", "sl-rozaj-biske"),
            ("locale", "en-u-CA-gregory", "en-u-ca-gregory"),
            ("locale", "es-419", "es-419"),
            ("time_zone", "UTC", "UTC"),
            ("time_zone", "America/Argentina/Buenos_Aires", "America/Argentina/Buenos_Aires"),
            ("time_zone", "Etc/GMT+5", "Etc/GMT+5"),
        ],
    )
    async def test_what_is_right_is_kept_in_its_usual_form(
        self, program: httpx.AsyncClient, member: str, given: str, kept: str
    ):
        response = await program.put("/v1/users/eve", json={**PROFILE, member: given})

        assert (response.status_code, response.json()[member]) == (201, kept)

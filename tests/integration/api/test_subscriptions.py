"""The endpoints of subscriptions."""

import asyncio
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.models import EventType, NotificationSubscription, Tenant, TestScenario, User
from tests.factories import make_scenario
from tests.fakes.channel import FakeChannel

Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture
async def scenario(sessions: Sessions, users: dict[str, User]) -> TestScenario:
    async with sessions.begin() as session:
        return await make_scenario(session, users["alice"], "Checkout")


@pytest.fixture
async def mandatory(sessions: Sessions) -> str:
    async with sessions.begin() as session:
        session.add(EventType(name="alarm", description="Fire.", default_channels=["in_app"], mandatory=True))
    return "alarm"


async def rules(sessions: Sessions) -> int:
    mine = Tenant.id == NotificationSubscription.tenant_id
    query = sa.select(sa.func.count()).select_from(NotificationSubscription).join(Tenant, mine)
    async with sessions() as session:
        return await session.scalar(query.where(Tenant.slug == "demo")) or 0


async def state_of(client: httpx.AsyncClient, event_type: str) -> dict[str, Any]:
    [state] = [
        state
        for state in (await client.get("/v1/subscriptions")).json()["event_types"]
        if state["event_type"] == event_type
    ]
    return dict(state)


class TestListSubscriptions:
    async def test_at_first_there_is_none(self, bob: httpx.AsyncClient):
        response = await bob.get("/v1/subscriptions")

        assert response.json() == {
            "event_types": [
                {"event_type": name, "enabled": False, "channels": [], "mandatory": False}
                for name in ("scenario.created", "scenario.deleted", "scenario.executed")
            ],
            "scenarios": [],
            "next_cursor": None,
            "has_more": False,
        }

    async def test_scenarios_come_in_pages_and_event_types_on_each(
        self, bob: httpx.AsyncClient, sessions: Sessions, users: dict[str, User]
    ):
        async with sessions.begin() as session:
            scenarios = [await make_scenario(session, users["alice"], f"number {n}") for n in range(3)]
        for scenario in scenarios:
            await bob.put(f"/v1/scenarios/{scenario.id}/subscription", json={"level": "muted"})

        first = await bob.get("/v1/subscriptions", params={"limit": 2})
        second = await bob.get(first.links["next"]["url"])

        pages = [[rule["scenario_name"] for rule in page.json()["scenarios"]] for page in (first, second)]
        assert pages == [["number 2", "number 1"], ["number 0"]]
        assert first.json()["event_types"] == second.json()["event_types"]

    async def test_a_deleted_scenario_disappears(
        self, alice: httpx.AsyncClient, bob: httpx.AsyncClient, scenario: TestScenario
    ):
        await bob.put(f"/v1/scenarios/{scenario.id}/subscription", json={"level": "all"})

        await alice.delete(f"/v1/scenarios/{scenario.id}")

        assert (await bob.get("/v1/subscriptions")).json()["scenarios"] == []


class TestEnableEventType:
    @pytest.mark.parametrize("body", [None, {}, {"channels": None}, {"channels": []}, {"channels": ["in_app"] * 2}])
    async def test_it_is_enabled_in_the_inbox_at_least(self, bob: httpx.AsyncClient, body: Any):
        response = await bob.put("/v1/subscriptions/scenario.executed", json=body)

        subscription = {
            "event_type": "scenario.executed",
            "enabled": True,
            "channels": ["in_app"],
            "mandatory": False,
        }
        assert (response.status_code, response.json()) == (200, subscription)
        assert await state_of(bob, "scenario.executed") == subscription

    async def test_repeating_it_changes_nothing_even_at_the_same_time(self, bob: httpx.AsyncClient, sessions: Sessions):
        responses = await asyncio.gather(*(bob.put("/v1/subscriptions/scenario.executed") for _ in range(8)))

        assert {response.status_code for response in responses} == {200}
        assert await rules(sessions) == 1

    async def test_it_is_nobody_elses(
        self, alice: httpx.AsyncClient, bob: httpx.AsyncClient, mallory: httpx.AsyncClient
    ):
        await bob.put("/v1/subscriptions/scenario.executed")

        assert not (await state_of(alice, "scenario.executed"))["enabled"]
        assert not (await state_of(mallory, "scenario.executed"))["enabled"]

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({"channels": ["pigeon"]}, "#/channels/0"),
            ({"channels": ["in_app", 1]}, "#/channels/1"),
            ({"channels": "in_app"}, "#/channels"),
            ({"chanels": []}, "#/chanels"),
        ],
    )
    async def test_invalid_input_is_refused(self, bob: httpx.AsyncClient, body: dict[str, Any], pointer: str):
        response = await bob.put("/v1/subscriptions/scenario.executed", json=body)

        assert response.status_code == 422
        assert [error["pointer"] for error in response.json()["errors"]] == [pointer]

    async def test_channels_are_kept_in_their_usual_order(self, bob: httpx.AsyncClient):
        response = await bob.put("/v1/subscriptions/scenario.executed", json={"channels": ["webhook", "email"]})

        assert response.json()["channels"] == ["in_app", "email", "webhook"]
        assert (await state_of(bob, "scenario.executed"))["channels"] == ["in_app", "email", "webhook"]

    async def test_a_channel_that_is_not_offered_is_refused(
        self, bob: httpx.AsyncClient, channels: dict[str, FakeChannel]
    ):
        del channels["sms"]

        response = await bob.put("/v1/subscriptions/scenario.executed", json={"channels": ["email", "sms"]})

        assert response.status_code == 422
        [error] = response.json()["errors"]
        assert (error["pointer"], error["code"]) == ("#/channels/1", "channel_not_offered")
        assert "in_app, email, slack, webhook, apprise" in error["detail"]
        assert not (await state_of(bob, "scenario.executed"))["enabled"]

    @pytest.mark.parametrize("method", ["PUT", "DELETE"])
    @pytest.mark.parametrize("name", ["scenario.exploded", "%00", "x" * 300, "%F0%9F%98%80"])
    async def test_an_unknown_event_type_is_not_found(self, bob: httpx.AsyncClient, method: str, name: str):
        response = await bob.request(method, f"/v1/subscriptions/{name}")

        assert (response.status_code, response.json()["code"]) == (404, "event_type_not_found")


class TestDisableEventType:
    async def test_it_is_disabled_however_often(self, bob: httpx.AsyncClient):
        await bob.put("/v1/subscriptions/scenario.executed")

        statuses = [(await bob.delete("/v1/subscriptions/scenario.executed")).status_code for _ in range(2)]

        assert statuses == [204, 204]
        assert not (await state_of(bob, "scenario.executed"))["enabled"]

    async def test_others_keep_theirs(self, alice: httpx.AsyncClient, bob: httpx.AsyncClient):
        await alice.put("/v1/subscriptions/scenario.executed")

        await bob.delete("/v1/subscriptions/scenario.executed")

        assert (await state_of(alice, "scenario.executed"))["enabled"]


class TestMandatoryEventTypes:
    async def test_they_are_enabled_for_everybody(self, bob: httpx.AsyncClient, mandatory: str):
        expected = {"event_type": mandatory, "enabled": True, "channels": ["in_app"], "mandatory": True}

        assert await state_of(bob, mandatory) == expected
        assert (await bob.put(f"/v1/subscriptions/{mandatory}")).json() == expected

    async def test_they_cannot_be_disabled(self, bob: httpx.AsyncClient, mandatory: str):
        response = await bob.delete(f"/v1/subscriptions/{mandatory}")

        assert (response.status_code, response.json()["code"]) == (409, "event_type_mandatory")


class TestScenarioSubscription:
    async def test_the_last_level_holds(self, bob: httpx.AsyncClient, scenario: TestScenario, sessions: Sessions):
        url = f"/v1/scenarios/{scenario.id}/subscription"

        responses = [await bob.put(url, json={"level": level}) for level in ("all", "muted", "muted")]

        rule = {"scenario_id": str(scenario.id), "scenario_name": "Checkout"}
        assert [(response.status_code, response.json()) for response in responses] == [
            (200, {**rule, "level": level}) for level in ("all", "muted", "muted")
        ]
        assert (await bob.get("/v1/subscriptions")).json()["scenarios"] == [{**rule, "level": "muted"}]
        assert await rules(sessions) == 1

    async def test_repeating_it_at_the_same_time_makes_one_rule(
        self, bob: httpx.AsyncClient, scenario: TestScenario, sessions: Sessions
    ):
        url = f"/v1/scenarios/{scenario.id}/subscription"

        responses = await asyncio.gather(*(bob.put(url, json={"level": "all"}) for _ in range(8)))

        assert {response.status_code for response in responses} == {200}
        assert await rules(sessions) == 1

    async def test_it_can_be_taken_back_however_often(self, bob: httpx.AsyncClient, scenario: TestScenario):
        url = f"/v1/scenarios/{scenario.id}/subscription"
        await bob.put(url, json={"level": "muted"})

        statuses = [(await bob.delete(url)).status_code for _ in range(2)]

        assert statuses == [204, 204]
        assert (await bob.get("/v1/subscriptions")).json()["scenarios"] == []

    async def test_it_is_nobody_elses(self, alice: httpx.AsyncClient, bob: httpx.AsyncClient, scenario: TestScenario):
        url = f"/v1/scenarios/{scenario.id}/subscription"
        await bob.put(url, json={"level": "muted"})

        await alice.delete(url)

        assert len((await bob.get("/v1/subscriptions")).json()["scenarios"]) == 1
        assert (await alice.get("/v1/subscriptions")).json()["scenarios"] == []

    @pytest.mark.parametrize("body", [{}, {"level": "some"}, {"level": None}, {"level": "all", "x": 1}])
    async def test_invalid_input_is_refused(self, bob: httpx.AsyncClient, scenario: TestScenario, body: dict[str, Any]):
        response = await bob.put(f"/v1/scenarios/{scenario.id}/subscription", json=body)

        assert response.status_code == 422

"""The endpoints of scenarios and executions."""

import asyncio
import json
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.models import Event, Execution, Tenant
from shared.queue.memory import MemoryQueue

JSON = {"Content-Type": "application/json"}

Sessions = async_sessionmaker[AsyncSession]


async def create(client: httpx.AsyncClient, name: str = "Checkout", **members: Any) -> dict[str, Any]:
    response = await client.post("/v1/scenarios", json={"name": name, **members})
    assert response.status_code == 201
    scenario: dict[str, Any] = response.json()
    return scenario


async def names_in(client: httpx.AsyncClient, **params: Any) -> list[str]:
    response = await client.get("/v1/scenarios", params=params)
    assert response.status_code == 200
    return [scenario["name"] for scenario in response.json()["data"]]


async def event_types(sessions: Sessions) -> list[str]:
    """Return what has happened in this tenant."""
    query = sa.select(Event.event_type).join(Tenant, Tenant.id == Event.tenant_id).where(Tenant.slug == "demo")
    async with sessions() as session:
        return list(await session.scalars(query.order_by(Event.id)))


class TestCreateScenario:
    async def test_a_new_scenario_is_returned_with_its_address(self, alice: httpx.AsyncClient):
        response = await alice.post(
            "/v1/scenarios", json={"name": " Checkout ", "description": "Buys\na book", "labels": ["shop", "smoke"]}
        )

        scenario = response.json()
        assert response.status_code == 201
        assert response.headers["location"] == f"/v1/scenarios/{scenario['id']}"
        assert (scenario["name"], scenario["labels"]) == ("Checkout", ["shop", "smoke"])
        assert scenario["description"] == "Buys\na book"
        assert scenario["created_at"].endswith("Z")
        assert scenario["executed_at"] is scenario["deleted_at"] is None
        assert (await alice.get(response.headers["location"])).json() == scenario

    async def test_its_creation_is_an_event_which_the_relay_sends(
        self, alice: httpx.AsyncClient, sessions: Sessions, queue: MemoryQueue
    ):
        await create(alice)

        assert await event_types(sessions) == ["scenario.created"]
        async with asyncio.timeout(5):
            while not (await queue.depth()).visible:
                await asyncio.sleep(0.01)

    @pytest.mark.parametrize(
        ("body", "pointer", "code"),
        [
            ({}, "#/name", "missing"),
            ({"name": None}, "#/name", "string_type"),
            ({"name": 1}, "#/name", "string_type"),
            ({"name": ""}, "#/name", "string_too_short"),
            ({"name": "  \t "}, "#/name", "string_too_short"),
            ({"name": "x" * 201}, "#/name", "string_too_long"),
            ({"name": "a\x00b"}, "#/name", "string_pattern_mismatch"),
            ({"name": "a\r\nBcc: b"}, "#/name", "string_pattern_mismatch"),
            ({"name": "\ud800"}, "#/name", "string_unicode"),
            ({"name": "a", "description": "a\x00b"}, "#/description", "string_pattern_mismatch"),
            ({"name": "a", "description": "\udfff"}, "#/description", "string_unicode"),
            ({"name": "a", "description": "x" * 4001}, "#/description", "string_too_long"),
            ({"name": "a", "labels": ["x"] * 2}, "#/labels", "not_unique"),
            ({"name": "a", "labels": [str(n) for n in range(21)]}, "#/labels", "too_long"),
            ({"name": "a", "labels": ["ok", ""]}, "#/labels/1", "string_too_short"),
            ({"name": "a", "labels": ["x" * 65]}, "#/labels/0", "string_too_long"),
            ({"name": "a", "labels": "x"}, "#/labels", "list_type"),
            ({"name": "a", "titel": "b"}, "#/titel", "extra_forbidden"),
            ({"name": "a", "a/b~c": "b"}, "#/a~1b~0c", "extra_forbidden"),
            ([], "#", "model_attributes_type"),
        ],
    )
    async def test_invalid_input_is_refused_with_the_place(
        self, alice: httpx.AsyncClient, sessions: Sessions, body: Any, pointer: str, code: str
    ):
        response = await alice.post("/v1/scenarios", content=json.dumps(body), headers=JSON)

        problem = response.json()
        assert response.status_code == 422
        assert problem["code"] == "invalid_input"
        assert [(error["pointer"], error["code"]) for error in problem["errors"]] == [(pointer, code)]
        assert await event_types(sessions) == []

    async def test_the_longest_input_is_accepted(self, alice: httpx.AsyncClient):
        labels = [f"{n:064}" for n in range(20)]

        scenario = await create(alice, "ß" * 200, description="€" * 4000, labels=labels)

        assert scenario["labels"] == labels


class TestListScenarios:
    async def test_the_newest_comes_first(self, alice: httpx.AsyncClient):
        for name in ("first", "second", "third"):
            await create(alice, name)

        assert await names_in(alice) == ["third", "second", "first"]

    async def test_pages_follow_each_other_without_gap_or_overlap(self, alice: httpx.AsyncClient):
        for number in range(5):
            await create(alice, str(number))

        seen: list[str] = []
        url: str | None = "/v1/scenarios?limit=2"
        while url:
            response = await alice.get(url)
            page = response.json()
            seen += [scenario["name"] for scenario in page["data"]]
            url = response.links["next"]["url"] if "next" in response.links else None
            assert page["has_more"] == (page["next_cursor"] is not None) == (url is not None)

        assert seen == ["4", "3", "2", "1", "0"]

    async def test_a_full_last_page_has_no_next_one(self, alice: httpx.AsyncClient):
        await create(alice)

        page = (await alice.get("/v1/scenarios", params={"limit": 1})).json()

        assert (page["next_cursor"], page["has_more"]) == (None, False)

    async def test_a_label_filters(self, alice: httpx.AsyncClient):
        await create(alice, "labelled", labels=["smoke", "shop"])
        await create(alice, "other", labels=["smok"])

        assert await names_in(alice, label="smoke") == ["labelled"]

    async def test_deleted_ones_are_listed_only_on_demand(self, alice: httpx.AsyncClient):
        await create(alice, "kept")
        deleted = await create(alice, "deleted")
        await alice.delete(f"/v1/scenarios/{deleted['id']}")

        assert await names_in(alice) == ["kept"]
        assert await names_in(alice, deleted=True) == ["deleted"]

    async def test_another_tenant_sees_none_of_them(
        self, alice: httpx.AsyncClient, bob: httpx.AsyncClient, mallory: httpx.AsyncClient
    ):
        await create(alice, "demo's")
        await create(mallory, "other's")

        assert await names_in(bob) == ["demo's"]
        assert await names_in(mallory) == ["other's"]

    @pytest.mark.parametrize(
        ("query", "pointer"),
        [
            ("limit=0", "?limit"),
            ("limit=101", "?limit"),
            ("limit=ten", "?limit"),
            ("deleted=maybe", "?deleted"),
            ("label=%00", "?label"),
            ("lable=smoke", "?lable"),
            ("cursor=" + "x" * 513, "?cursor"),
        ],
    )
    async def test_an_invalid_query_is_refused(self, alice: httpx.AsyncClient, query: str, pointer: str):
        response = await alice.get(f"/v1/scenarios?{query}")

        assert response.status_code == 422
        assert [error["pointer"] for error in response.json()["errors"]] == [pointer]

    async def test_a_cursor_belongs_to_its_user_list_and_filter(
        self, alice: httpx.AsyncClient, bob: httpx.AsyncClient, mallory: httpx.AsyncClient
    ):
        scenario = await create(alice, labels=["smoke"])
        await create(alice)
        cursor = (await alice.get("/v1/scenarios?limit=1")).json()["next_cursor"]

        responses = [
            await bob.get("/v1/scenarios", params={"cursor": cursor}),
            await mallory.get("/v1/scenarios", params={"cursor": cursor}),
            await alice.get("/v1/scenarios", params={"cursor": cursor, "label": "smoke"}),
            await alice.get("/v1/notifications", params={"cursor": cursor}),
            await alice.get(f"/v1/scenarios/{scenario['id']}/executions", params={"cursor": cursor}),
            await alice.get("/v1/scenarios", params={"cursor": cursor[:-2]}),
            await alice.get("/v1/scenarios", params={"cursor": "A" + cursor}),
            await alice.get("/v1/scenarios", params={"cursor": "ä"}),
        ]

        assert [(response.status_code, response.json()["code"]) for response in responses] == [
            (400, "invalid_cursor")
        ] * len(responses)


class TestGetScenario:
    async def test_everybody_of_the_tenant_reads_it(self, alice: httpx.AsyncClient, bob: httpx.AsyncClient):
        scenario = await create(alice)

        assert (await bob.get(f"/v1/scenarios/{scenario['id']}")).json() == scenario


class TestExecuteScenario:
    async def test_a_run_is_recorded(self, alice: httpx.AsyncClient, sessions: Sessions):
        scenario = await create(alice)
        run = {"outcome": "failed", "duration_ms": 2**31 - 1, "url": "https://ci.example/7?a=b#c"}

        response = await alice.post(f"/v1/scenarios/{scenario['id']}/executions", json=run)

        execution = response.json()
        assert response.status_code == 201
        assert {name: execution[name] for name in run} == run
        assert execution["scenario_id"] == scenario["id"]
        executed = (await alice.get(f"/v1/scenarios/{scenario['id']}")).json()
        assert executed["executed_at"] == execution["executed_at"]
        assert await event_types(sessions) == ["scenario.created", "scenario.executed"]

    @pytest.mark.parametrize("body", ["", "{}", '{"outcome": null}'])
    async def test_nothing_needs_to_be_said_about_it(self, alice: httpx.AsyncClient, body: str):
        scenario = await create(alice)

        response = await alice.post(f"/v1/scenarios/{scenario['id']}/executions", content=body, headers=JSON)

        assert response.status_code == 201
        assert response.json()["outcome"] is None

    async def test_an_integer_may_be_written_with_a_point(self, alice: httpx.AsyncClient):
        scenario = await create(alice)

        response = await alice.post(
            f"/v1/scenarios/{scenario['id']}/executions", content='{"duration_ms": 12.0}', headers=JSON
        )

        assert response.json()["duration_ms"] == 12

    async def test_without_body_no_content_type_is_needed(self, alice: httpx.AsyncClient):
        scenario = await create(alice)

        assert (await alice.post(f"/v1/scenarios/{scenario['id']}/executions")).status_code == 201

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({"outcome": "great"}, "#/outcome"),
            ({"duration_ms": -1}, "#/duration_ms"),
            ({"duration_ms": 2**31}, "#/duration_ms"),
            ({"duration_ms": True}, "#/duration_ms"),
            ({"duration_ms": "1"}, "#/duration_ms"),
            ({"duration_ms": 1.5}, "#/duration_ms"),
            ({"url": "javascript:alert(1)"}, "#/url"),
            ({"url": "ftp://host/file"}, "#/url"),
            ({"url": "https:///path"}, "#/url"),
            ({"url": "https://host/a b"}, "#/url"),
            ({"url": "https://host/\x00"}, "#/url"),
            ({"url": "https://host/\ud800"}, "#/url"),
            ({"url": "https://host/" + "x" * 2000}, "#/url"),
        ],
    )
    async def test_invalid_input_is_refused(
        self, alice: httpx.AsyncClient, body: dict[str, Any], pointer: str, sessions: Sessions
    ):
        scenario = await create(alice)

        url = f"/v1/scenarios/{scenario['id']}/executions"

        response = await alice.post(url, content=json.dumps(body), headers=JSON)

        assert response.status_code == 422
        assert [error["pointer"] for error in response.json()["errors"]] == [pointer]
        assert await event_types(sessions) == ["scenario.created"]


class TestListExecutions:
    async def test_the_newest_comes_first_page_by_page(self, alice: httpx.AsyncClient):
        scenario = await create(alice)
        other = await create(alice)
        url = f"/v1/scenarios/{scenario['id']}/executions"
        for duration_ms in range(3):
            await alice.post(url, json={"duration_ms": duration_ms})
        await alice.post(f"/v1/scenarios/{other['id']}/executions")

        first = await alice.get(url, params={"limit": 2})
        second = await alice.get(first.links["next"]["url"])

        pages = [[run["duration_ms"] for run in response.json()["data"]] for response in (first, second)]
        assert pages == [[2, 1], [0]]

    async def test_a_cursor_belongs_to_its_scenario(self, alice: httpx.AsyncClient):
        scenario, other = await create(alice), await create(alice)
        for _ in range(2):
            await alice.post(f"/v1/scenarios/{scenario['id']}/executions")
        page = await alice.get(f"/v1/scenarios/{scenario['id']}/executions", params={"limit": 1})

        response = await alice.get(
            f"/v1/scenarios/{other['id']}/executions", params={"cursor": page.json()["next_cursor"]}
        )

        assert response.json()["code"] == "invalid_cursor"


class TestDeleteScenario:
    async def test_a_deleted_scenario_is_gone(self, alice: httpx.AsyncClient, sessions: Sessions):
        url = f"/v1/scenarios/{(await create(alice))['id']}"

        assert (await alice.delete(url)).status_code == 204

        responses = [
            await alice.get(url),
            await alice.delete(url),
            await alice.post(f"{url}/executions"),
            await alice.get(f"{url}/executions"),
            await alice.put(f"{url}/subscription", json={"level": "all"}),
        ]
        assert [(response.status_code, response.json()["code"]) for response in responses] == [
            (404, "scenario_not_found")
        ] * len(responses)
        assert await event_types(sessions) == ["scenario.created", "scenario.deleted"]

    async def test_of_two_at_once_one_succeeds(self, alice: httpx.AsyncClient, sessions: Sessions):
        url = f"/v1/scenarios/{(await create(alice))['id']}"

        responses = await asyncio.gather(*(alice.delete(url) for _ in range(4)))

        assert sorted(response.status_code for response in responses) == [204, 404, 404, 404]
        assert await event_types(sessions) == ["scenario.created", "scenario.deleted"]

    async def test_an_execution_at_the_same_time_comes_before_it_or_not_at_all(
        self, alice: httpx.AsyncClient, sessions: Sessions
    ):
        for _ in range(5):
            url = f"/v1/scenarios/{(await create(alice))['id']}"

            executed, deleted = await asyncio.gather(alice.post(f"{url}/executions"), alice.delete(url))

            assert deleted.status_code == 204
            assert executed.status_code in {201, 404}
        mine = sa.select(sa.func.count()).select_from(Execution).join(Tenant, Tenant.id == Execution.tenant_id)
        async with sessions() as session:
            executions = await session.scalar(mine.where(Tenant.slug == "demo"))
        assert (await event_types(sessions)).count("scenario.executed") == executions


class TestIsolation:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", ""),
            ("DELETE", ""),
            ("GET", "/executions"),
            ("POST", "/executions"),
            ("PUT", "/subscription"),
            ("DELETE", "/subscription"),
        ],
    )
    async def test_another_tenants_scenario_is_like_none(
        self, alice: httpx.AsyncClient, mallory: httpx.AsyncClient, method: str, path: str
    ):
        foreign = (await create(alice))["id"]
        absent = [str(uuid4()), "not-an-id", "%00", "1"]
        body = {"level": "all"} if method == "PUT" else None

        responses = {
            scenario_id: await mallory.request(method, f"/v1/scenarios/{scenario_id}{path}", json=body)
            for scenario_id in [foreign, *absent]
        }

        for scenario_id, response in responses.items():
            problem = response.json()
            assert response.status_code == 404
            assert problem.pop("instance") == f"/v1/scenarios/{unquote(scenario_id)}{path}"
            assert problem.pop("request_id") == response.headers["x-request-id"]
            assert problem == {
                "type": "urn:problem-type:scenario_not_found",
                "title": "Scenario not found",
                "status": 404,
                "detail": "No scenario of yours has this id.",
                "code": "scenario_not_found",
            }
        assert (await alice.get(f"/v1/scenarios/{foreign}")).status_code == 200

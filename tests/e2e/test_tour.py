"""What the service is for, over HTTP, against the whole system."""

from typing import Any

import httpx
import pytest

from tests.fixtures.local_system import RunningSystem, wait_for


@pytest.fixture(scope="module")
def alice(system: RunningSystem):
    with system.client("alice") as client:
        yield client


# Two people of whom no other test has heard: what is counted here is what happened here.
@pytest.fixture(scope="module")
def author(system: RunningSystem):
    with system.client("author of the tour") as client:
        yield client


@pytest.fixture(scope="module")
def reader(system: RunningSystem):
    with system.client("reader of the tour") as client:
        yield client


def create_scenario(client: httpx.Client, name: str = "Checkout") -> str:
    scenario_id: str = client.post("/v1/scenarios", json={"name": name}).raise_for_status().json()["id"]
    return scenario_id


def execute(client: httpx.Client, scenario_id: str) -> None:
    client.post(f"/v1/scenarios/{scenario_id}/executions", json={"outcome": "failed"}).raise_for_status()


def list_notifications(client: httpx.Client, **filters: str) -> list[dict[str, Any]]:
    notifications: list[dict[str, Any]] = (
        client.get("/v1/notifications", params=filters).raise_for_status().json()["data"]
    )
    return notifications


def count_unread(client: httpx.Client) -> int:
    unread: int = client.get("/v1/notifications/counts").raise_for_status().json()["unread"]
    return unread


def test_what_happens_is_told_once_and_as_each_person_asked(system: RunningSystem, author, reader):
    scenario_id = create_scenario(author)
    # What another test did last is not for this reader.
    system.await_fan_out()
    reader.put("/v1/subscriptions/scenario.executed", json={}).raise_for_status()

    # A subscriber is told once; the actor is not.
    execute(author, scenario_id)
    [notification] = wait_for(lambda: list_notifications(reader, scenario_id=scenario_id))
    assert notification["title"] == "“Checkout” failed"
    assert notification["reason"] == "subscribed"
    assert notification["read_at"] is None
    assert count_unread(reader) == 1
    assert list_notifications(author) == []

    # The reader reads it, takes that back, and archives it.
    state = f"/v1/notifications/{notification['id']}"
    assert reader.put(f"{state}/read").raise_for_status().json()["counts"] == {"unread": 0, "unseen": 0}
    assert reader.delete(f"{state}/read").raise_for_status().json()["counts"] == {"unread": 1, "unseen": 0}
    assert reader.put(f"{state}/archive").raise_for_status().json()["counts"] == {"unread": 0, "unseen": 0}
    assert list_notifications(reader, scenario_id=scenario_id) == []
    assert len(list_notifications(reader, scenario_id=scenario_id, status="archived")) == 1

    # A disabled type brings nothing, following the scenario brings its events nevertheless, muting silences it.
    reader.delete("/v1/subscriptions/scenario.executed").raise_for_status()
    execute(author, scenario_id)
    system.await_fan_out()
    assert list_notifications(reader, scenario_id=scenario_id) == []

    reader.put(f"/v1/scenarios/{scenario_id}/subscription", json={"level": "all"}).raise_for_status()
    execute(author, scenario_id)
    system.await_fan_out()
    assert [told["reason"] for told in list_notifications(reader, scenario_id=scenario_id)] == ["following"]

    reader.put(f"/v1/scenarios/{scenario_id}/subscription", json={"level": "muted"}).raise_for_status()
    execute(author, scenario_id)
    system.await_fan_out()
    assert len(list_notifications(reader, scenario_id=scenario_id)) == 1

    # A deleted scenario breaks no inbox.
    author.delete(f"/v1/scenarios/{scenario_id}").raise_for_status()
    system.await_fan_out()
    [kept] = list_notifications(reader, scenario_id=scenario_id)
    assert kept["title"] == "“Checkout” failed"
    assert kept["scenario"] == {"id": scenario_id, "name": "Checkout", "deleted": True}


def test_the_other_tenant_neither_sees_nor_is_told(system: RunningSystem, alice):
    scenario_id = create_scenario(alice)
    with system.client("eve", tenant="acme") as eve:
        eve.put("/v1/subscriptions/scenario.executed", json={}).raise_for_status()

        execute(alice, scenario_id)
        system.await_fan_out()

        assert list_notifications(eve) == []
        assert eve.get(f"/v1/scenarios/{scenario_id}").status_code == 404
        assert [scenario["name"] for scenario in eve.get("/v1/scenarios").json()["data"]] == [
            "Launch of the rocket skates"
        ]


def test_a_person_nobody_has_heard_of_signs_in_with_a_token(system: RunningSystem, alice):
    scenario_id = create_scenario(alice)
    with system.client("newcomer") as newcomer:
        newcomer.put(f"/v1/scenarios/{scenario_id}/subscription", json={"level": "all"}).raise_for_status()

        execute(alice, scenario_id)

        [notification] = wait_for(lambda: list_notifications(newcomer))
        assert notification["actor"]["name"] == "Alice"

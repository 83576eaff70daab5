"""The endpoints of the inbox."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeAlias
from uuid import uuid4

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.models import TestScenario, User
from tests.factories import NOON, make_event, make_notification, make_scenario

Sessions = async_sessionmaker[AsyncSession]
Notify: TypeAlias = Callable[..., Awaitable[str]]


@pytest.fixture
async def scenario(sessions: Sessions, users: dict[str, User]) -> TestScenario:
    async with sessions.begin() as session:
        return await make_scenario(session, users["alice"], "Checkout")


@pytest.fixture
def notify(sessions: Sessions, users: dict[str, User], scenario: TestScenario) -> Notify:
    """Tell people, bob unless said otherwise, of a run of alice's scenario; return the notification's id."""

    async def tell(
        *names: str, about: TestScenario = scenario, event_type: str = "scenario.executed", **columns: Any
    ) -> str:
        async with sessions.begin() as session:
            event = await make_event(session, about, users["alice"], event_type=event_type)
            for name in names or ("bob",):
                await make_notification(session, users[name], event, **columns)
        return str(event.id)

    return tell


async def ids_in(client: httpx.AsyncClient, **params: Any) -> list[str]:
    response = await client.get("/v1/notifications", params=params)
    assert response.status_code == 200
    return [notification["id"] for notification in response.json()["data"]]


async def counts_of(client: httpx.AsyncClient) -> tuple[int, int]:
    counts = (await client.get("/v1/notifications/counts")).json()
    return counts["unread"], counts["unseen"]


class TestGetNotification:
    async def test_it_says_what_happened(
        self, bob: httpx.AsyncClient, notify: Notify, scenario: TestScenario, users: dict[str, User]
    ):
        notification_id = await notify()

        notification = (await bob.get(f"/v1/notifications/{notification_id}")).json()

        assert datetime.fromisoformat(notification.pop("created_at")).tzinfo is not None
        assert notification == {
            "id": notification_id,
            "event_type": "scenario.executed",
            "title": "“Checkout” passed",
            "body": "Alice executed this scenario; it took 1.2 s.",
            "scenario": {"id": str(scenario.id), "name": "Checkout", "deleted": False},
            "actor": {"id": str(users["alice"].id), "external_id": "alice", "name": "Alice"},
            "reason": "subscribed",
            "occurred_at": "2026-11-02T12:00:00Z",
            "seen_at": None,
            "read_at": None,
            "archived_at": None,
        }

    async def test_it_reads_the_same_after_the_scenario_was_deleted(
        self, alice: httpx.AsyncClient, bob: httpx.AsyncClient, notify: Notify, scenario: TestScenario
    ):
        url = f"/v1/notifications/{await notify()}"
        before = (await bob.get(url)).json()

        await alice.delete(f"/v1/scenarios/{scenario.id}")

        assert (await bob.get(url)).json() == {**before, "scenario": {**before["scenario"], "deleted": True}}
        assert await ids_in(bob) == [before["id"]]


class TestListNotifications:
    async def test_the_newest_comes_first_page_by_page(self, bob: httpx.AsyncClient, notify: Notify):
        ids = [await notify() for _ in range(5)]

        seen: list[str] = []
        url: str | None = "/v1/notifications?limit=2"
        while url:
            response = await bob.get(url)
            seen += [notification["id"] for notification in response.json()["data"]]
            assert response.json()["counts"] == {"unread": 5, "unseen": 5}
            url = response.links["next"]["url"] if "next" in response.links else None

        assert seen == ids[::-1]

    async def test_a_status_filters(self, bob: httpx.AsyncClient, notify: Notify):
        unread = await notify()
        read = await notify(read_at=NOON, seen_at=NOON)
        archived = await notify(archived_at=NOON)

        assert await ids_in(bob) == await ids_in(bob, status="all") == [read, unread]
        assert await ids_in(bob, status="unread") == [unread]
        assert await ids_in(bob, status="read") == [read]
        assert await ids_in(bob, status="archived") == [archived]

    async def test_event_type_and_scenario_filter(
        self, bob: httpx.AsyncClient, notify: Notify, sessions: Sessions, users: dict[str, User]
    ):
        async with sessions.begin() as session:
            other = await make_scenario(session, users["alice"], "Other")
        executed = await notify()
        created = await notify(event_type="scenario.created")
        elsewhere = await notify(about=other)

        assert await ids_in(bob, event_type="scenario.created") == [created]
        assert await ids_in(bob, scenario_id=other.id) == [elsewhere]
        assert await ids_in(bob, event_type="scenario.executed", scenario_id=other.id) == [elsewhere]
        assert await ids_in(bob, event_type="scenario.executed") == [elsewhere, executed]
        assert await ids_in(bob, event_type="unheard.of") == []

    @pytest.mark.parametrize("query", ["status=new", "scenario_id=1", "event_type=%00", "state=unread", "limit=1.5"])
    async def test_an_invalid_query_is_refused(self, bob: httpx.AsyncClient, query: str):
        assert (await bob.get(f"/v1/notifications?{query}")).status_code == 422


class TestCounts:
    async def test_archived_and_read_ones_do_not_count(self, bob: httpx.AsyncClient, notify: Notify):
        await notify()
        await notify(seen_at=NOON)
        await notify(seen_at=NOON, read_at=NOON)
        await notify(archived_at=NOON)

        assert await counts_of(bob) == (2, 1)

    async def test_they_are_counted_by_the_index_alone(self, sessions: Sessions, users: dict[str, User]):
        async with sessions() as session:
            await session.execute(sa.text("SET enable_seqscan = off"))
            plan = await session.scalars(
                sa.text(
                    "EXPLAIN SELECT count(*), count(*) FILTER (WHERE seen_at IS NULL) FROM user_notifications"
                    " WHERE user_id = :me AND read_at IS NULL AND archived_at IS NULL"
                ),
                {"me": users["bob"].id},
            )

            assert "Index Only Scan using ix_user_notifications_unread" in "\n".join(plan)


class TestMarkRead:
    async def test_it_is_read_and_seen_with_the_new_counts(self, bob: httpx.AsyncClient, notify: Notify):
        notification_id = await notify()
        await notify()

        response = await bob.put(f"/v1/notifications/{notification_id}/read")

        state = response.json()
        assert response.status_code == 200
        assert state["counts"] == {"unread": 1, "unseen": 1}
        assert state["notification"]["read_at"] == state["notification"]["seen_at"] is not None
        assert (await bob.get(f"/v1/notifications/{notification_id}")).json() == state["notification"]

    async def test_the_first_time_counts(self, bob: httpx.AsyncClient, notify: Notify):
        url = f"/v1/notifications/{await notify(seen_at=NOON)}/read"

        first, second = [(await bob.put(url)).json() for _ in range(2)]

        assert first == second
        assert first["notification"]["seen_at"] == "2026-11-02T12:00:00Z"

    async def test_it_can_be_taken_back_and_stays_seen(self, bob: httpx.AsyncClient, notify: Notify):
        url = f"/v1/notifications/{await notify()}/read"
        await bob.put(url)

        first, second = [(await bob.delete(url)).json() for _ in range(2)]

        assert first == second
        assert first["counts"] == {"unread": 1, "unseen": 0}
        assert first["notification"]["read_at"] is None
        assert first["notification"]["seen_at"] is not None


class TestArchive:
    async def test_it_leaves_the_list_and_the_counts(self, bob: httpx.AsyncClient, notify: Notify):
        notification_id = await notify()
        url = f"/v1/notifications/{notification_id}/archive"

        first, second = [(await bob.put(url)).json() for _ in range(2)]

        assert first == second
        assert first["counts"] == {"unread": 0, "unseen": 0}
        assert await ids_in(bob) == []
        assert await ids_in(bob, status="archived") == [notification_id]

    async def test_it_can_be_taken_back(self, bob: httpx.AsyncClient, notify: Notify):
        notification_id = await notify()
        url = f"/v1/notifications/{notification_id}/archive"
        await bob.put(url)

        first, second = [(await bob.delete(url)).json() for _ in range(2)]

        assert first == second
        assert first["counts"] == {"unread": 1, "unseen": 1}
        assert await ids_in(bob) == [notification_id]


class TestMarkAllRead:
    async def test_what_came_later_stays_unread(self, bob: httpx.AsyncClient, notify: Notify):
        first, second = await notify(), await notify(seen_at=NOON)
        later = await notify()

        response = await bob.post("/v1/notifications/read", json={"up_to": second})

        assert response.json() == {"updated": 2, "counts": {"unread": 1, "unseen": 1}}
        assert await ids_in(bob, status="unread") == [later]
        assert await ids_in(bob, status="read") == [second, first]
        assert (await bob.get(f"/v1/notifications/{second}")).json()["seen_at"] == "2026-11-02T12:00:00Z"

    async def test_repeating_it_finds_nothing_more(self, bob: httpx.AsyncClient, notify: Notify):
        newest = await notify()

        updated = [
            (await bob.post("/v1/notifications/read", json={"up_to": newest})).json()["updated"] for _ in range(2)
        ]

        assert updated == [1, 0]

    async def test_filters_narrow_it(
        self, bob: httpx.AsyncClient, notify: Notify, sessions: Sessions, users: dict[str, User]
    ):
        async with sessions.begin() as session:
            other = await make_scenario(session, users["alice"], "Other")
        await notify()
        await notify(event_type="scenario.created")
        newest = await notify(about=other)

        by_type = await bob.post("/v1/notifications/read", json={"up_to": newest, "event_type": "scenario.created"})
        by_scenario = await bob.post("/v1/notifications/read", json={"up_to": newest, "scenario_id": str(other.id)})

        assert [response.json()["updated"] for response in (by_type, by_scenario)] == [1, 1]
        assert await counts_of(bob) == (1, 1)

    async def test_others_keep_theirs(self, alice: httpx.AsyncClient, bob: httpx.AsyncClient, notify: Notify):
        newest = await notify("alice", "bob")
        await notify("alice", archived_at=NOON)

        await bob.post("/v1/notifications/read", json={"up_to": newest})

        assert await counts_of(alice) == (1, 1)


class TestMarkAllSeen:
    async def test_the_badge_is_cleared_but_nothing_is_read(self, bob: httpx.AsyncClient, notify: Notify):
        await notify()
        newest = await notify()
        await notify()

        response = await bob.post("/v1/notifications/seen", json={"up_to": newest})

        assert response.json() == {"updated": 2, "counts": {"unread": 3, "unseen": 1}}


class TestBulkInput:
    @pytest.mark.parametrize("path", ["read", "seen"])
    @pytest.mark.parametrize("body", [{}, {"up_to": "newest"}, {"up_to": None}, {"up_to": 1}])
    async def test_it_must_name_a_notification(self, bob: httpx.AsyncClient, path: str, body: dict[str, Any]):
        response = await bob.post(f"/v1/notifications/{path}", json=body)

        assert [error["pointer"] for error in response.json()["errors"]] == ["#/up_to"]

    @pytest.mark.parametrize("path", ["read", "seen"])
    async def test_which_must_be_mine(self, bob: httpx.AsyncClient, notify: Notify, path: str):
        await notify()
        foreign = await notify("alice")

        responses = [
            await bob.post(f"/v1/notifications/{path}", json={"up_to": up_to}) for up_to in (foreign, str(uuid4()))
        ]

        problems = [{**response.json(), "request_id": None} for response in responses]
        assert problems[0] == problems[1]
        assert problems[0]["code"] == "notification_not_found"
        assert await counts_of(bob) == (1, 1)


class TestIsolation:
    @pytest.mark.parametrize(
        ("method", "path"),
        [("GET", ""), ("PUT", "/read"), ("DELETE", "/read"), ("PUT", "/archive"), ("DELETE", "/archive")],
    )
    async def test_somebody_elses_notification_is_like_none(
        self, bob: httpx.AsyncClient, mallory: httpx.AsyncClient, notify: Notify, method: str, path: str
    ):
        foreign = await notify("alice")

        for client in (bob, mallory):
            told = []
            for notification_id in (foreign, str(uuid4()), "not-an-id"):
                response = await client.request(method, f"/v1/notifications/{notification_id}{path}")
                assert response.status_code == 404
                told.append({**response.json(), "instance": None, "request_id": None})
            assert told[0] == told[1] == told[2]

    async def test_lists_and_counts_hold_only_mine(
        self, alice: httpx.AsyncClient, bob: httpx.AsyncClient, mallory: httpx.AsyncClient, notify: Notify
    ):
        alices, bobs = await notify("alice"), await notify("bob")

        assert [await ids_in(client) for client in (alice, bob, mallory)] == [[alices], [bobs], []]
        assert [await counts_of(client) for client in (alice, bob, mallory)] == [(1, 1), (1, 1), (0, 0)]


async def test_an_event_of_an_unknown_type_still_reads_well(bob: httpx.AsyncClient, notify: Notify, sessions: Sessions):
    async with sessions.begin() as session:
        await session.execute(
            sa.text("INSERT INTO event_types VALUES ('scenario.moved', 'It was moved.', '{in_app}', false)")
        )
    notification_id = await notify(event_type="scenario.moved")

    notification = (await bob.get(f"/v1/notifications/{notification_id}")).json()

    assert notification["title"] == "News of “Checkout”"

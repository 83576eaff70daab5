"""The delivery log: what people see of their notifications, what programs see of the tenant, and another try."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from api.api_keys import Program
from api.deliveries import repository
from api.deliveries.schemas import DeliveryQuery
from api.pagination import Window
from shared.ids import new_id
from shared.models import (
    AttemptResult,
    Delivery,
    DeliveryReason,
    DeliveryStatus,
    Event,
    Tenant,
    TestScenario,
    User,
)
from shared.scope import Scope, enter_scope
from tests.factories import (
    NOON,
    make_api_key,
    make_attempt,
    make_delivery,
    make_event,
    make_notification,
    make_scenario,
)
from tests.integration.api.clients import OpenClient

Sessions = async_sessionmaker[AsyncSession]

ENDS: dict[str, dict[str, Any]] = {
    "failed": {
        "status": DeliveryStatus.FAILED,
        "reason": DeliveryReason.RETRIES_EXHAUSTED,
        "ended_at": NOON,
        "failure_count": 7,
        "attempt_count": 1,
    },
    "parked": {"status": DeliveryStatus.PARKED, "reason": DeliveryReason.OUTCOME_UNKNOWN, "ended_at": NOON},
    "skipped": {"status": DeliveryStatus.SKIPPED, "reason": DeliveryReason.NO_ADDRESS, "ended_at": NOON},
    "delivered": {"status": DeliveryStatus.DELIVERED, "reason": DeliveryReason.DELIVERED, "ended_at": NOON},
    "pending": {},
}


@pytest.fixture
async def scenario(sessions: Sessions, users: dict[str, User]) -> TestScenario:
    async with sessions.begin() as session:
        return await make_scenario(session, users["alice"])


@pytest.fixture
async def deliveries(sessions: Sessions, users: dict[str, User], scenario: TestScenario) -> dict[str, Delivery]:
    """One of alice's for each status, the last one newest, and one of mallory's that failed."""
    async with sessions.begin() as session:
        mine = {
            name: await add_delivery(session, users["alice"], scenario, **columns) for name, columns in ENDS.items()
        }
        theirs = await make_scenario(session, users["mallory"])
        mine["theirs"] = await add_delivery(session, users["mallory"], theirs, **ENDS["failed"])
        await make_attempt(
            session,
            mine["failed"],
            ended_at=NOON + timedelta(seconds=2),
            result=AttemptResult.TEMPORARY_FAILURE,
            detail="503 from the server",
        )
        return mine


async def add_delivery(session: AsyncSession, user: User, scenario: TestScenario, **columns: Any) -> Delivery:
    """Add a delivery of an event of its own."""
    event = await make_event(session, scenario, user, published_at=NOON, fanned_out_at=NOON)
    await make_notification(session, user, event)
    return await make_delivery(session, user, event, **columns)


async def get_delivery(sessions: Sessions, delivery: Delivery) -> Delivery:
    async with sessions() as session:
        return await session.get_one(Delivery, (delivery.tenant_id, delivery.id))


def ids(response: httpx.Response) -> list[UUID]:
    return [UUID(delivery["id"]) for delivery in response.json()["data"]]


class TestOfMyNotification:
    async def test_it_shows_every_delivery_with_every_attempt(
        self, alice: httpx.AsyncClient, deliveries: dict[str, Delivery]
    ):
        failed = deliveries["failed"]

        response = await alice.get(f"/v1/notifications/{failed.event_id}/deliveries")

        assert response.status_code == 200
        [delivery] = response.json()["data"]
        assert delivery.pop("expires_at")
        assert delivery.pop("created_at")
        assert delivery == {
            "id": str(failed.id),
            "channel": "email",
            "about": None,
            "status": "failed",
            "reason": "retries_exhausted",
            "next_attempt_at": None,
            "ended_at": "2026-11-02T12:00:00Z",
            "attempts": [
                {
                    "number": 1,
                    "started_at": "2026-11-02T12:00:00Z",
                    "ended_at": "2026-11-02T12:00:02Z",
                    "result": "temporary_failure",
                    "detail": "503 from the server",
                    "provider": None,
                }
            ],
        }

    async def test_one_that_is_pending_says_when_it_is_tried_next(
        self, alice: httpx.AsyncClient, deliveries: dict[str, Delivery]
    ):
        response = await alice.get(f"/v1/notifications/{deliveries['pending'].event_id}/deliveries")

        [delivery] = response.json()["data"]
        assert (delivery["status"], delivery["reason"], delivery["attempts"]) == ("pending", None, [])
        assert delivery["next_attempt_at"] is not None

    async def test_the_word_about_another_channel_is_one_of_them(
        self, alice: httpx.AsyncClient, sessions: Sessions, users: dict[str, User], deliveries: dict[str, Delivery]
    ):
        failed = deliveries["failed"]
        async with sessions.begin() as session:
            event = await session.get_one(Event, (failed.tenant_id, failed.event_id))
            await make_delivery(session, users["alice"], event, about="webhook")

        response = await alice.get(f"/v1/notifications/{failed.event_id}/deliveries")

        assert [delivery["about"] for delivery in response.json()["data"]] == [None, "webhook"]

    async def test_of_a_notification_that_went_nowhere_else_there_are_none(
        self, alice: httpx.AsyncClient, sessions: Sessions, users: dict[str, User], scenario: TestScenario
    ):
        async with sessions.begin() as session:
            event = await make_event(session, scenario, users["alice"], published_at=NOON)
            await make_notification(session, users["alice"], event)

        response = await alice.get(f"/v1/notifications/{event.id}/deliveries")

        assert response.json() == {"data": []}

    async def test_a_notification_of_somebody_else_is_not_found(
        self, bob: httpx.AsyncClient, deliveries: dict[str, Delivery]
    ):
        response = await bob.get(f"/v1/notifications/{deliveries['failed'].event_id}/deliveries")

        assert (response.status_code, response.json()["code"]) == (404, "notification_not_found")


class TestList:
    async def test_it_shows_the_tenants_deliveries_newest_first(
        self, program: httpx.AsyncClient, deliveries: dict[str, Delivery]
    ):
        response = await program.get("/v1/admin/deliveries")

        assert ids(response) == [deliveries[name].id for name in reversed(ENDS)]
        assert [delivery["status"] for delivery in response.json()["data"]] == [*reversed(ENDS)]
        assert (
            response.json()["data"][-1].items()
            >= {
                "user": "alice",
                "notification_id": str(deliveries["failed"].event_id),
                "reason": "retries_exhausted",
                "attempt_count": 1,
            }.items()
        )

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ({"status": "failed"}, ["failed"]),
            ({"status": "parked"}, ["parked"]),
            ({"status": "skipped"}, ["skipped"]),
            ({"status": "pending"}, ["pending"]),
            ({"reason": "no_address"}, ["skipped"]),
            ({"reason": "no such reason"}, []),
            ({"channel": "sms"}, []),
            ({"channel": "email", "status": "failed", "reason": "retries_exhausted", "user": "alice"}, ["failed"]),
            ({"user": "bob"}, []),
            ({"user": "mallory"}, []),
            ({"user": "alice", "status": "parked"}, ["parked"]),
        ],
    )
    async def test_it_can_be_filtered(
        self, program: httpx.AsyncClient, deliveries: dict[str, Delivery], query: dict[str, str], found: list[str]
    ):
        response = await program.get("/v1/admin/deliveries", params=query)

        assert ids(response) == [deliveries[name].id for name in found]
        assert response.json()["has_more"] is False

    @pytest.mark.parametrize("query", [{}, {"channel": "email"}, {"user": "alice"}])
    async def test_its_pages_follow_one_another(
        self, program: httpx.AsyncClient, deliveries: dict[str, Delivery], query: dict[str, str]
    ):
        found: list[UUID] = []
        cursor: str | None = ""
        for _ in range(5):
            page = await program.get(
                "/v1/admin/deliveries", params={**query, "limit": "1"} | ({"cursor": cursor} if cursor else {})
            )
            found += ids(page)
            cursor = page.json()["next_cursor"]

        assert cursor is None
        assert found == [deliveries[name].id for name in reversed(ENDS)]

    async def test_a_page_looks_at_a_bounded_part_and_says_where_to_go_on(
        self, program: httpx.AsyncClient, deliveries: dict[str, Delivery], monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(repository, "MAX_LOOKED", 2)

        first = await program.get("/v1/admin/deliveries", params={"reason": "no_address"})
        second = await program.get(
            "/v1/admin/deliveries", params={"reason": "no_address", "cursor": first.json()["next_cursor"]}
        )

        assert (ids(first), first.json()["has_more"]) == ([], True)
        assert (ids(second), second.json()["has_more"]) == ([deliveries["skipped"].id], True)

    async def test_a_status_that_there_is_not_is_refused(self, program: httpx.AsyncClient):
        response = await program.get("/v1/admin/deliveries", params={"status": "lost"})

        assert response.status_code == 422

    async def test_it_needs_its_scope(self, open_client: OpenClient, sessions: Sessions, tenants: dict[str, Tenant]):
        async with sessions.begin() as session:
            _, key = await make_api_key(session, tenants["demo"], "deliveries:write")
        async with open_client(key) as client:
            response = await client.get("/v1/admin/deliveries")

        assert (response.status_code, response.json()["code"]) == (403, "insufficient_scope")


class TestGet:
    async def test_it_shows_every_attempt(self, program: httpx.AsyncClient, deliveries: dict[str, Delivery]):
        response = await program.get(f"/v1/admin/deliveries/{deliveries['failed'].id}")

        delivery = response.json()
        assert (delivery["user"], delivery["status"]) == ("alice", "failed")
        assert [attempt["result"] for attempt in delivery["attempts"]] == ["temporary_failure"]

    async def test_one_of_another_tenant_is_not_found(
        self, program: httpx.AsyncClient, deliveries: dict[str, Delivery]
    ):
        theirs = await program.get(f"/v1/admin/deliveries/{deliveries['theirs'].id}")
        unknown = await program.get(f"/v1/admin/deliveries/{new_id()}")

        assert (theirs.status_code, unknown.status_code) == (404, 404)
        assert theirs.json()["code"] == unknown.json()["code"] == "delivery_not_found"

    async def test_the_name_of_an_action_is_no_id(self, program: httpx.AsyncClient):
        assert (await program.get("/v1/admin/deliveries/retry")).status_code == 405


class TestRetryOne:
    @pytest.mark.parametrize("name", ["failed", "parked"])
    async def test_it_is_due_once_more_with_all_its_time(
        self, program: httpx.AsyncClient, sessions: Sessions, deliveries: dict[str, Delivery], name: str
    ):
        response = await program.post(f"/v1/admin/deliveries/{deliveries[name].id}/retry")

        assert response.status_code == 200
        assert (response.json()["status"], response.json()["reason"]) == ("pending", None)
        delivery = await get_delivery(sessions, deliveries[name])
        assert (delivery.status, delivery.reason, delivery.ended_at) == (DeliveryStatus.PENDING, None, None)
        assert (delivery.lease_token, delivery.failure_count) == (None, 0)
        assert delivery.attempt_count == deliveries[name].attempt_count
        assert delivery.next_attempt_at <= datetime.now(UTC)
        assert delivery.expires_at - delivery.next_attempt_at == timedelta(days=4)

    @pytest.mark.parametrize("name", ["pending", "delivered", "skipped"])
    async def test_any_other_is_left_as_it_is(
        self, program: httpx.AsyncClient, sessions: Sessions, deliveries: dict[str, Delivery], name: str
    ):
        response = await program.post(f"/v1/admin/deliveries/{deliveries[name].id}/retry")

        assert (response.status_code, response.json()["code"]) == (409, "delivery_not_retryable")
        assert (await get_delivery(sessions, deliveries[name])).status == name

    async def test_one_of_another_tenant_is_not_found(
        self, program: httpx.AsyncClient, sessions: Sessions, deliveries: dict[str, Delivery]
    ):
        response = await program.post(f"/v1/admin/deliveries/{deliveries['theirs'].id}/retry")

        assert response.status_code == 404
        assert (await get_delivery(sessions, deliveries["theirs"])).status == "failed"

    async def test_to_read_is_not_to_write(
        self, open_client: OpenClient, sessions: Sessions, tenants: dict[str, Tenant], deliveries: dict[str, Delivery]
    ):
        async with sessions.begin() as session:
            _, key = await make_api_key(session, tenants["demo"], "deliveries:read")
        async with open_client(key) as client:
            response = await client.post(f"/v1/admin/deliveries/{deliveries['failed'].id}/retry")

        assert response.status_code == 403


class TestRetryMany:
    async def test_unless_told_otherwise_it_only_says_which_ones(
        self, program: httpx.AsyncClient, sessions: Sessions, deliveries: dict[str, Delivery]
    ):
        response = await program.post("/v1/admin/deliveries/retry", json={})

        assert response.json() == {
            "dry_run": True,
            "count": 2,
            "has_more": False,
            "ids": [str(deliveries[name].id) for name in ("failed", "parked")],
        }
        assert (await get_delivery(sessions, deliveries["failed"])).status == "failed"

    async def test_told_so_it_tries_them_again(
        self, program: httpx.AsyncClient, sessions: Sessions, deliveries: dict[str, Delivery]
    ):
        response = await program.post("/v1/admin/deliveries/retry", json={"dry_run": False})
        again = await program.post("/v1/admin/deliveries/retry", json={"dry_run": False})

        assert (response.json()["count"], again.json()["count"]) == (2, 0)
        statuses = {name: (await get_delivery(sessions, delivery)).status for name, delivery in deliveries.items()}
        assert statuses == {
            "failed": "pending",
            "parked": "pending",
            "skipped": "skipped",
            "delivered": "delivered",
            "pending": "pending",
            "theirs": "failed",
        }

    @pytest.mark.parametrize(
        ("filters", "found"),
        [
            ({"status": "parked"}, ["parked"]),
            ({"reason": "retries_exhausted", "channel": "email"}, ["failed"]),
            ({"channel": "sms"}, []),
            ({"user": "alice"}, ["failed", "parked"]),
            ({"user": "mallory"}, []),
        ],
    )
    async def test_it_tries_those_that_fit(
        self,
        program: httpx.AsyncClient,
        sessions: Sessions,
        deliveries: dict[str, Delivery],
        filters: dict[str, str],
        found: list[str],
    ):
        response = await program.post("/v1/admin/deliveries/retry", json={**filters, "dry_run": False})

        assert response.json()["ids"] == [str(deliveries[name].id) for name in found]
        for name in ("failed", "parked"):
            assert (await get_delivery(sessions, deliveries[name])).status == ("pending" if name in found else name)

    async def test_it_tries_no_more_than_asked_for_and_says_that_there_are_more(
        self, program: httpx.AsyncClient, sessions: Sessions, deliveries: dict[str, Delivery]
    ):
        response = await program.post("/v1/admin/deliveries/retry", json={"limit": 1, "dry_run": False})

        assert (response.json()["count"], response.json()["has_more"]) == (1, True)
        assert (await get_delivery(sessions, deliveries["parked"])).status == "parked"

    @pytest.mark.parametrize("status", ["pending", "delivered", "skipped"])
    async def test_what_cannot_be_tried_again_cannot_be_asked_for(self, program: httpx.AsyncClient, status: str):
        response = await program.post("/v1/admin/deliveries/retry", json={"status": status})

        assert response.status_code == 422


class TestCost:
    """Plans on a log that was analysed: no filter makes a page read more than its bounded part."""

    FILL = text("""
        WITH event AS (
            INSERT INTO events (tenant_id, id, event_type, scenario_id, actor_id, snapshot, occurred_at, published_at)
            SELECT :tenant_id, new_id(), 'scenario.executed', :scenario_id, :user_id, '{}', now(), now()
              FROM generate_series(1, 20000)
            RETURNING tenant_id, id
        ),
        notification AS (
            INSERT INTO user_notifications (tenant_id, user_id, event_id, reason)
            SELECT tenant_id, :user_id, id, 'subscribed' FROM event
        )
        INSERT INTO deliveries (tenant_id, id, user_id, event_id, channel, status, reason, expires_at)
        SELECT tenant_id, new_id(), :user_id, id, 'email', 'delivered', 'delivered', now() FROM event
    """)

    @pytest.mark.parametrize(
        "query",
        [
            {},
            {"status": "failed"},
            {"status": "skipped"},
            {"channel": "sms"},
            {"reason": "suppressed"},
            {"user": "bob"},
            {"status": "failed", "channel": "sms"},
        ],
    )
    async def test_a_page_never_reads_the_whole_log(  # noqa: PLR0913, PLR0917 - fixtures
        self,
        api_sessions: Sessions,
        engine: AsyncEngine,
        sessions: Sessions,
        users: dict[str, User],
        tenants: dict[str, Tenant],
        scenario: TestScenario,
        monkeypatch: pytest.MonkeyPatch,
        query: dict[str, str],
    ):
        monkeypatch.setattr(repository, "MAX_LOOKED", 100)
        values = {"tenant_id": scenario.tenant_id, "scenario_id": scenario.id, "user_id": users["alice"].id}
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(self.FILL, values)
            await connection.execute(text("VACUUM ANALYZE deliveries"))
        async with sessions.begin() as session:
            key, _ = await make_api_key(session, tenants["demo"], "deliveries:read")
        program = Program(key.tenant_id, key.id, key.prefix, frozenset(key.scopes), None)
        which = DeliveryQuery.model_validate(query)
        user_id = users[which.user].id if which.user else None

        async with api_sessions() as session:
            await enter_scope(session, Scope(key.tenant_id, key.id))
            with remembered_statements(session) as statements:
                await repository.list_deliveries(program, session, which, user_id, Window.of(which, program))
            assert sum([await count_read(session, *statement) for statement in statements]) <= 300


@contextmanager
def remembered_statements(session: AsyncSession) -> Iterator[list[tuple[str, Any]]]:
    """Yield what the block asks the database."""
    engine = session.bind.sync_engine  # type: ignore[union-attr]
    seen: list[tuple[str, Any]] = []

    def remember(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        seen.append((statement, parameters))

    sa.event.listen(engine, "before_cursor_execute", remember)
    yield seen
    sa.event.remove(engine, "before_cursor_execute", remember)


async def count_read(session: AsyncSession, statement: str, parameters: Any) -> int:
    """Return how many deliveries the statement reads, those included that it then throws away."""
    connection = await session.connection()
    explained = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
    answer = explained.scalar_one()
    [explanation] = json.loads(answer) if isinstance(answer, str) else answer
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in walk(explanation["Plan"])
        if node.get("Relation Name") == "deliveries"
    )


def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from walk(child)

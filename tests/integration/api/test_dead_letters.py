"""Dead letters: seen by programs of the tenant, and sent round once more."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.models import Event, Tenant, User
from shared.queue.envelope import parse_envelope
from shared.queue.memory import MemoryQueue
from tests.factories import NOON, make_api_key, make_event, make_scenario
from tests.integration.api.clients import OpenClient

Sessions = async_sessionmaker[AsyncSession]

WAIT = timedelta(seconds=20)


@pytest.fixture
async def events(sessions: Sessions, users: dict[str, User]) -> list[Event]:
    """Three dead letters of alice's tenant, the oldest first; then one that was handled, and one of another tenant."""
    async with sessions.begin() as session:
        mine, theirs = [await make_scenario(session, users[name]) for name in ("alice", "mallory")]
        dead: dict[str, Any] = {
            "published_at": NOON,
            "dead_lettered_at": NOON + timedelta(hours=1),
            "dead_letter_reason": "division by zero",
        }
        events = [await make_event(session, mine, users["alice"], **dead) for _ in range(3)]
        events.append(await make_event(session, mine, users["alice"], published_at=NOON, fanned_out_at=NOON))
        events.append(await make_event(session, theirs, users["mallory"], **dead))
        return events


async def is_dead(sessions: Sessions, event: Event) -> bool:
    async with sessions() as session:
        return (await session.get_one(Event, (event.tenant_id, event.id))).dead_lettered_at is not None


def ids(response: httpx.Response) -> list[UUID]:
    return [UUID(letter["event_id"]) for letter in response.json()["data"]]


class TestList:
    async def test_it_shows_the_tenants_newest_first(self, program: httpx.AsyncClient, events: list[Event]):
        response = await program.get("/v1/admin/dead-letters")

        assert ids(response) == [event.id for event in reversed(events[:3])]
        assert response.json()["data"][0] == {
            "event_id": str(events[2].id),
            "event_type": "scenario.executed",
            "scenario_id": str(events[2].scenario_id),
            "occurred_at": "2026-11-02T12:00:00Z",
            "dead_lettered_at": "2026-11-02T13:00:00Z",
            "reason": "division by zero",
        }

    async def test_its_pages_follow_one_another(self, program: httpx.AsyncClient, events: list[Event]):
        first = await program.get("/v1/admin/dead-letters", params={"limit": 2})
        second = await program.get("/v1/admin/dead-letters", params={"cursor": first.json()["next_cursor"]})

        assert ids(first) + ids(second) == [event.id for event in reversed(events[:3])]
        assert second.json()["has_more"] is False

    async def test_it_needs_its_scope(self, open_client: OpenClient, sessions: Sessions, tenants: dict[str, Tenant]):
        async with sessions.begin() as session:
            _, key = await make_api_key(session, tenants["demo"], "dead_letters:write", "deliveries:read")
        async with open_client(key) as client:
            response = await client.get("/v1/admin/dead-letters")

        assert (response.status_code, response.json()["code"]) == (403, "insufficient_scope")


class TestRedrive:
    async def test_unless_told_otherwise_it_only_says_which_ones(
        self, program: httpx.AsyncClient, sessions: Sessions, events: list[Event]
    ):
        response = await program.post("/v1/admin/dead-letters/redrive", json={"limit": 2})

        assert response.json() == {
            "dry_run": True,
            "count": 2,
            "has_more": True,
            "event_ids": [str(event.id) for event in events[:2]],
        }
        assert await is_dead(sessions, events[0])

    async def test_told_so_it_sends_them_to_the_queue_once_more(
        self, program: httpx.AsyncClient, queue: MemoryQueue, sessions: Sessions, events: list[Event]
    ):
        response = await program.post("/v1/admin/dead-letters/redrive", json={"dry_run": False})

        assert (response.json()["count"], response.json()["has_more"]) == (3, False)
        arrived: set[UUID] = set()
        while len(arrived) < 3:
            messages = await queue.receive(max_messages=10, wait=WAIT)
            assert messages
            arrived |= {parse_envelope(message.body).id for message in messages}
        assert arrived == {event.id for event in events[:3]}
        assert [await is_dead(sessions, event) for event in events] == [False, False, False, False, True]

    async def test_no_more_than_asked_for_and_the_oldest_first(
        self, program: httpx.AsyncClient, sessions: Sessions, events: list[Event]
    ):
        response = await program.post("/v1/admin/dead-letters/redrive", json={"limit": 1, "dry_run": False})

        assert response.json()["event_ids"] == [str(events[0].id)]
        assert response.json()["has_more"] is True
        assert [await is_dead(sessions, event) for event in events[:3]] == [False, True, True]

    async def test_where_there_are_none_it_says_so(self, program: httpx.AsyncClient):
        response = await program.post("/v1/admin/dead-letters/redrive", json={"dry_run": False})

        assert (response.json()["count"], response.json()["event_ids"]) == (0, [])

    async def test_repeated_with_its_key_it_answers_as_before(
        self, program: httpx.AsyncClient, sessions: Sessions, events: list[Event]
    ):
        request = {"json": {"limit": 1, "dry_run": False}, "headers": {"Idempotency-Key": "once"}}

        first, second = [await program.post("/v1/admin/dead-letters/redrive", **request) for _ in range(2)]  # type: ignore[arg-type]

        assert first.json() == second.json()
        assert await is_dead(sessions, events[1])

    async def test_to_read_is_not_to_write(
        self, open_client: OpenClient, sessions: Sessions, tenants: dict[str, Tenant], events: list[Event]
    ):
        async with sessions.begin() as session:
            _, key = await make_api_key(session, tenants["demo"], "dead_letters:read")
        async with open_client(key) as client:
            response = await client.post("/v1/admin/dead-letters/redrive", json={"dry_run": False})

        assert response.status_code == 403
        assert await is_dead(sessions, events[0])

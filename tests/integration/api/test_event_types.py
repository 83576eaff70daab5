"""The endpoint of the catalogue."""

import httpx
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.models import EventType


class TestListEventTypes:
    async def test_the_catalogue_is_listed_by_name(self, alice: httpx.AsyncClient):
        page = (await alice.get("/v1/event-types")).json()

        assert [event_type["name"] for event_type in page["data"]] == [
            "scenario.created",
            "scenario.deleted",
            "scenario.executed",
        ]
        assert page["data"][0] == {
            "name": "scenario.created",
            "description": "A test scenario was created.",
            "default_channels": ["in_app"],
            "mandatory": False,
        }
        assert (page["next_cursor"], page["has_more"]) == (None, False)

    async def test_a_new_type_is_a_row(self, alice: httpx.AsyncClient, sessions: async_sessionmaker[AsyncSession]):
        async with sessions.begin() as session:
            session.add(
                EventType(
                    name="scenario.archived", description="Archived.", default_channels=["in_app"], mandatory=True
                )
            )

        page = (await alice.get("/v1/event-types", params={"limit": 1})).json()

        assert [event_type["name"] for event_type in page["data"]] == ["scenario.archived"]

    async def test_pages_follow_each_other(self, alice: httpx.AsyncClient):
        first = await alice.get("/v1/event-types", params={"limit": 2})
        second = await alice.get(first.links["next"]["url"])

        assert [event_type["name"] for event_type in second.json()["data"]] == ["scenario.executed"]

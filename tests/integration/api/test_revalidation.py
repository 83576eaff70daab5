"""Answers that clients ask for again and again."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import TypeAlias

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from api.revalidation import PollSettings
from api.settings import Settings
from shared.models import TestScenario, User
from shared.queue.memory import MemoryQueue
from tests.factories import NOON, make_event, make_notification, make_scenario
from tests.integration.api.clients import client_of, running_app, token_for

Sessions = async_sessionmaker[AsyncSession]

LIST = "/v1/notifications"
COUNTS = "/v1/notifications/counts"


class Inbox:
    """Bob's inbox, with one new, one read and one archived notification in it, and whoever changes it."""

    def __init__(self, sessions: Sessions, users: dict[str, User], clients: dict[str, httpx.AsyncClient]) -> None:
        self.alice, self.bob = clients["alice"], clients["bob"]
        self._sessions = sessions
        self._users = users
        self.scenario: TestScenario
        self.new = self.read = self.archived = ""

    async def fill(self) -> None:
        async with self._sessions.begin() as session:
            self.scenario = await make_scenario(session, self._users["alice"])
        self.archived = await self.tell("bob", seen_at=NOON, archived_at=NOON)
        self.read = await self.tell("bob", seen_at=NOON, read_at=NOON)
        self.new = await self.tell("bob")

    async def tell(self, name: str, **columns: object) -> str:
        async with self._sessions.begin() as session:
            event = await make_event(session, self.scenario, self._users["alice"])
            await make_notification(session, self._users[name], event, **columns)
        return str(event.id)


Change: TypeAlias = Callable[[Inbox], Awaitable[object]]
CHANGES: dict[str, tuple[Change, set[str]]] = {
    "a new notification": (lambda inbox: inbox.tell("bob"), {LIST, COUNTS}),
    "read": (lambda inbox: inbox.bob.put(f"{LIST}/{inbox.new}/read"), {LIST, COUNTS}),
    "unread": (lambda inbox: inbox.bob.delete(f"{LIST}/{inbox.read}/read"), {LIST, COUNTS}),
    "seen": (lambda inbox: inbox.bob.post(f"{LIST}/seen", json={"up_to": inbox.new}), {LIST, COUNTS}),
    "all read": (lambda inbox: inbox.bob.post(f"{LIST}/read", json={"up_to": inbox.new}), {LIST, COUNTS}),
    "archived": (lambda inbox: inbox.bob.put(f"{LIST}/{inbox.new}/archive"), {LIST, COUNTS}),
    "a read one archived": (lambda inbox: inbox.bob.put(f"{LIST}/{inbox.read}/archive"), {LIST}),
    "taken out of the archive": (lambda inbox: inbox.bob.delete(f"{LIST}/{inbox.archived}/archive"), {LIST, COUNTS}),
    "the scenario deleted": (lambda inbox: inbox.alice.delete(f"/v1/scenarios/{inbox.scenario.id}"), {LIST}),
}


@pytest.fixture
async def inbox(sessions: Sessions, users: dict[str, User], alice: httpx.AsyncClient, bob: httpx.AsyncClient) -> Inbox:
    inbox = Inbox(sessions, users, {"alice": alice, "bob": bob})
    await inbox.fill()
    return inbox


async def tag_of(client: httpx.AsyncClient, path: str = LIST) -> str:
    tag: str = (await client.get(path)).headers["etag"]
    return tag


async def ask(client: httpx.AsyncClient, path: str, *tags: str) -> httpx.Response:
    return await client.get(path, headers=[("If-None-Match", tag) for tag in tags])


@pytest.mark.parametrize("path", [LIST, COUNTS])
class TestUnchanged:
    async def test_it_is_not_sent_again(self, inbox: Inbox, path: str):
        first = await inbox.bob.get(path)

        second = await ask(inbox.bob, path, first.headers["etag"])

        assert (first.status_code, second.status_code) == (200, 304)
        assert second.content == b""
        assert not {"content-type", "content-length"} & second.headers.keys()
        for name in ("etag", "cache-control", "vary", "x-poll-interval"):
            assert first.headers[name] == second.headers[name]

    async def test_it_is_kept_only_by_its_reader_and_asked_about_each_time(self, inbox: Inbox, path: str):
        headers = (await inbox.bob.get(path)).headers

        assert headers["cache-control"] == "private, no-cache"
        assert headers["vary"] == "Authorization"
        assert headers["x-poll-interval"] == "30"

    async def test_a_tag_may_be_weak_or_one_of_many(self, inbox: Inbox, path: str):
        tag = await tag_of(inbox.bob, path)

        assert (await ask(inbox.bob, path, f"W/{tag}")).status_code == 304
        assert (await ask(inbox.bob, path, f'"a", W/"b,c", {tag}')).status_code == 304
        assert (await ask(inbox.bob, path, '"a"', tag)).status_code == 304
        assert (await ask(inbox.bob, path, "*")).status_code == 304

    @pytest.mark.parametrize("other", ['"a"', "", "nonsense", '"', "W/", '"*"'])
    async def test_another_tag_brings_the_answer(self, inbox: Inbox, path: str, other: str):
        assert (await ask(inbox.bob, path, other)).status_code == 200

    async def test_a_tag_without_its_quotes_is_none(self, inbox: Inbox, path: str):
        assert (await ask(inbox.bob, path, (await tag_of(inbox.bob, path)).strip('"'))).status_code == 200

    async def test_what_happens_to_others_is_no_change(self, inbox: Inbox, path: str):
        tag = await tag_of(inbox.bob, path)

        await inbox.tell("alice")

        assert (await ask(inbox.bob, path, tag)).status_code == 304


@pytest.mark.parametrize("name", CHANGES)
async def test_every_change_that_can_be_seen_changes_the_tag(inbox: Inbox, name: str):
    change, changed_paths = CHANGES[name]
    before = {path: await inbox.bob.get(path) for path in (LIST, COUNTS)}

    await change(inbox)

    for path, old in before.items():
        answer = await ask(inbox.bob, path, old.headers["etag"])
        if path in changed_paths:
            assert answer.status_code == 200
            assert answer.headers["etag"] != old.headers["etag"]
            assert answer.json() != old.json()
        else:
            assert answer.status_code == 304
            assert (await inbox.bob.get(path)).json() == old.json()


async def test_a_change_and_its_opposite_lead_back_only_to_what_is_the_same(inbox: Inbox):
    tags = [await tag_of(inbox.bob)]
    for method in ("PUT", "DELETE", "PUT"):
        await inbox.bob.request(method, f"{LIST}/{inbox.new}/read")
        tags.append(await tag_of(inbox.bob))

    # Seen once, it stays seen; and it was read at another time.
    assert len(set(tags)) == 4


async def test_pages_filters_and_people_have_tags_of_their_own(inbox: Inbox):
    paths = [LIST, f"{LIST}?limit=1", f"{LIST}?status=unread", f"{LIST}?status=archived"]

    tags = {await tag_of(inbox.bob, path) for path in paths} | {await tag_of(inbox.alice)}

    assert len(tags) == 5


async def test_a_problem_has_no_tag_and_is_not_kept(inbox: Inbox):
    response = await ask(inbox.bob, f"{LIST}?cursor=nonsense", "*")

    assert response.status_code == 400
    assert response.headers["cache-control"] == "private, no-store"
    assert not {"etag", "x-poll-interval"} & response.headers.keys()


async def test_everything_else_is_not_kept(inbox: Inbox):
    for path in (f"{LIST}/{inbox.new}", "/v1/scenarios", "/v1/subscriptions"):
        response = await inbox.bob.get(path)

        assert response.headers["cache-control"] == "private, no-store"
        assert "etag" not in response.headers


async def test_the_interval_is_a_setting(settings: Settings, users: dict[str, User]):
    slow = replace(settings, poll=PollSettings.model_validate({"poll_interval": timedelta(minutes=2)}))

    async with running_app(slow, MemoryQueue()) as app, client_of(app, token_for(users["bob"].external_id)) as client:
        assert (await client.get(COUNTS)).headers["x-poll-interval"] == "120"

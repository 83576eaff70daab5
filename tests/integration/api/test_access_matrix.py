"""Nobody sees what is not theirs: every route, with every id in it, tried by everybody who should not.

The matrix is generated from the application's own document. A new route or a new id in an old one fails it until
`EXAMPLES` and `KINDS` know what to send.
"""

import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from structlog.testing import capture_logs

from api.dependencies import CurrentUser
from api.openapi import build_document
from api.settings import Settings
from shared.ids import new_id
from shared.queue.memory import MemoryQueue
from shared.settings import DatabaseSettings
from tests.integration.api.access import (
    CODE,
    KINDS,
    Attempt,
    Person,
    Route,
    Slot,
    Values,
    World,
    attempt,
    bad_authorizations,
    find_routes,
    fingerprint,
    make_world,
)
from tests.integration.api.clients import running_app

Sessions = async_sessionmaker[AsyncSession]

# For each route a body that is valid as soon as the ids are added; None where it takes none.
EXAMPLES: dict[str, dict[str, Any] | None] = {
    "POST /v1/scenarios": {"name": "Checkout"},
    "GET /v1/scenarios": None,
    "GET /v1/scenarios/{scenario_id}": None,
    "DELETE /v1/scenarios/{scenario_id}": None,
    "POST /v1/scenarios/{scenario_id}/executions": {"outcome": "passed"},
    "GET /v1/scenarios/{scenario_id}/executions": None,
    "PUT /v1/scenarios/{scenario_id}/subscription": {"level": "muted"},
    "DELETE /v1/scenarios/{scenario_id}/subscription": None,
    "GET /v1/event-types": None,
    "GET /v1/subscriptions": None,
    "PUT /v1/subscriptions/{event_type}": {},
    "DELETE /v1/subscriptions/{event_type}": None,
    "GET /v1/notifications": None,
    "GET /v1/notifications/counts": None,
    "POST /v1/notifications/read": {},
    "POST /v1/notifications/seen": {},
    "GET /v1/notifications/{notification_id}": None,
    "PUT /v1/notifications/{notification_id}/read": None,
    "DELETE /v1/notifications/{notification_id}/read": None,
    "PUT /v1/notifications/{notification_id}/archive": None,
    "DELETE /v1/notifications/{notification_id}/archive": None,
    "GET /v1/notifications/{notification_id}/deliveries": None,
    "GET /v1/admin/deliveries": None,
    "GET /v1/admin/deliveries/{delivery_id}": None,
    "POST /v1/admin/deliveries/{delivery_id}/retry": None,
    "POST /v1/admin/deliveries/retry": {"dry_run": False},
    "GET /v1/admin/dead-letters": None,
    "POST /v1/admin/dead-letters/redrive": {"dry_run": False},
    "GET /v1/contact-points": None,
    "PUT /v1/contact-points/{channel}": {"address": "alice@example.com"},
    "DELETE /v1/contact-points/{channel}": None,
    "POST /v1/contact-points/webhook/secret": None,
    "POST /v1/contact-points/{channel}/verification": None,
    "POST /v1/contact-points/{channel}/verify": {"code": CODE},
    "POST /v1/contact-points/{channel}/test": None,
    "GET /v1/preferences": None,
    "PUT /v1/preferences": {"notify_self": True},
    "PUT /v1/users/{external_id}": {"name": "Somebody"},
}
ROUTES = list(find_routes(build_document()))
BY_NAME = {str(route): route for route in ROUTES}
PUBLIC = {"event_type": "scenario.executed", "external_id": "alice", "channel": "email"}
# Where that would not do: an address that is not proved yet gets no test.
PUBLIC_OF_ROUTE = {"POST /v1/contact-points/{channel}/test": {"channel": "webhook"}}

tried: Counter[str] = Counter()


@pytest.fixture(scope="module", autouse=True)
def summary(request: pytest.FixtureRequest) -> Iterator[None]:
    """Print how much was tried."""
    yield
    slots = [slot for route in ROUTES for slot in route.slots if slot.kind != "public"]
    line = (
        f"access matrix: {len(ROUTES)} routes, {len(slots)} ids in them, {tried['identity']} (route, identity) pairs; "
        f"{tried['foreign']} requests with somebody else's id, {tried['unknown']} with one that does not exist, "
        f"{tried['leak']} without any, {tried['refused']} with a credential that lets nobody in"
    )
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        sys.stdout.write(f"\n{line}\n")


@pytest.fixture
async def world(sessions: Sessions) -> World:
    return await make_world(sessions)


class TestMatrix:
    def test_it_knows_every_route_and_no_other(self):
        assert set(EXAMPLES) == set(BY_NAME)

    def test_it_knows_what_every_id_names(self):
        assert {slot.name for route in ROUTES for slot in route.slots} <= KINDS.keys()

    def test_it_finds_the_ids(self):
        slots = BY_NAME["POST /v1/notifications/read"].slots

        assert {(slot.place, slot.name, slot.required) for slot in slots} == {
            ("body", "up_to", True),
            ("body", "scenario_id", False),
        }

    async def test_it_notices_a_new_route(self, app: FastAPI):
        @app.get("/v1/secrets/{secret_id}", tags=["Scenarios"])
        def read_secret(secret_id: str, _me: CurrentUser) -> None:
            """Return a secret."""
            del secret_id

        app.openapi_schema = None
        found = {str(route): route for route in find_routes(app.openapi())}

        assert found.keys() - EXAMPLES.keys() == {"GET /v1/secrets/{secret_id}"}
        assert not {slot.name for slot in found["GET /v1/secrets/{secret_id}"].slots} <= KINDS.keys()


@pytest.mark.parametrize("route", ROUTES, ids=str)
class TestRoute:
    async def test_it_serves_its_owner_and_nobody_else(
        self, app: FastAPI, engine: AsyncEngine, world: World, route: Route
    ):
        assert [problem async for problem in find_violations(app, engine, world, route, tried)] == []

        # All of that was tried on something that was there the whole time.
        cursor = await find_cursor(app, world, route)
        owner = world.owner_of(route)
        values = own_values(route, owner) | {slot: cursor for slot in route.slots if slot.kind == "cursor"}
        assert (await send(app, route, values, owner)).status < 400

    async def test_a_credential_that_lets_nobody_in_is_refused_without_a_word_about_the_rest(
        self, app: FastAPI, engine: AsyncEngine, world: World, route: Route
    ):
        before = await fingerprint(engine, world, whole_tenant=True)
        answers: dict[str, set[str]] = {}
        for values in (own_values(route, world.victim), own_values(route, None)):
            for label, authorization in {"none": "", **bad_authorizations(world)}.items():
                answer = await attempt(app, route, values, EXAMPLES[str(route)], authorization=authorization)
                tried["refused"] += 1
                assert (label, answer.status) == (label, 401)
                answers.setdefault("none" if label == "none" else "bad", set()).add(repr(answer))

        assert [len(different) for different in answers.values()] == [1, 1]
        assert await fingerprint(engine, world, whole_tenant=True) == before


async def find_violations(
    app: FastAPI, engine: AsyncEngine, world: World, route: Route, tried: Counter[str]
) -> AsyncIterator[str]:
    """Yield a sentence for each thing that somebody learns, changes or is told of what is not theirs."""
    cursor = await find_cursor(app, world, route)
    for person in world.strangers_to(route):
        tried["identity"] += 1
        before = await fingerprint(engine, world, whole_tenant=not person.same_tenant)
        plain = await send(app, route, own_values(route, person), person)
        tried["leak"] += 1
        for sentence in leaks(world, person, plain):
            yield f"{route}: {person.label} {sentence}"
        for slot in route.slots:
            if not world.foreign_to(person, slot):
                continue
            own = own_values(route, person)
            foreign_value = cursor if slot.kind == "cursor" else world.victim.ids[slot.kind]
            unknown_value = "nonsense" if slot.kind == "cursor" else str(new_id())
            # First what does not exist: what the foreign one changes, if it does, must not be taken for the usual.
            unknown = await send(app, route, own | {slot: unknown_value}, person)
            foreign = await send(app, route, own | {slot: foreign_value}, person)
            tried["unknown"] += 1
            tried["foreign"] += 1
            if foreign != unknown:
                yield f"{route}: {person.label} can tell {slot.name} of somebody else from one that does not exist"
            if slot.required and foreign.status != (404 if person.may_use(route) else 403):
                yield f"{route}: {person.label} got {foreign.status} with {slot.name} of somebody else"
            if slot.kind == "cursor" and foreign.status != (400 if person.may_use(route) else 403):
                yield f"{route}: {person.label} got {foreign.status} with the cursor of somebody else"
            for sentence in leaks(world, person, foreign):
                yield f"{route}: {person.label} {sentence}"
        if await fingerprint(engine, world, whole_tenant=not person.same_tenant) != before:
            yield f"{route}: {person.label} changed what is not theirs"


async def send(app: FastAPI, route: Route, values: Values, person: Person) -> Attempt:
    return await attempt(app, route, values, EXAMPLES[str(route)], authorization=person.authorization())


def leaks(world: World, person: Person, answer: Attempt) -> Iterator[str]:
    for secret in world.secrets_from(person):
        if secret in answer.body or secret in repr(answer.headers):
            yield f"was told {secret!r}"


def own_values(route: Route, person: Person | None) -> Values:
    """Return the ids that a request has to have: the person's own, unknown ones if they have none."""
    ids = person.ids if person else {}
    public = PUBLIC | PUBLIC_OF_ROUTE.get(str(route), {})
    return {
        slot: public[slot.name] if slot.kind == "public" else ids.get(slot.kind) or str(new_id())
        for slot in route.slots
        if slot.required
    }


async def find_cursor(app: FastAPI, world: World, route: Route) -> str:
    """Return the cursor that leads the victim to the second page, if the route has pages."""
    if not any(slot.kind == "cursor" for slot in route.slots):
        return ""
    limit = Slot("query", "limit", required=False)
    page = await attempt(
        app,
        route,
        {**own_values(route, world.victim), limit: "1"},
        None,
        authorization=world.owner_of(route).authorization(),
    )
    [cursor] = re.findall(r'"next_cursor":"([^"]+)"', page.body)
    return str(cursor)


@pytest.mark.timeout(300)
class TestTeeth:
    """One wall is taken away, and then both: the matrix must not notice the first and has to notice the second."""

    async def test_without_any_predicate_the_policies_hold(
        self, settings: Settings, sessions: Sessions, engine: AsyncEngine
    ):
        assert await try_without_predicates(settings, sessions, engine) == []

    async def test_without_policies_every_missing_predicate_is_found(
        self, settings: Settings, database_url: str, sessions: Sessions, engine: AsyncEngine
    ):
        # A superuser is subject to no policy.
        superuser = replace(settings, database=DatabaseSettings.model_validate({"url": database_url}))

        violations = await try_without_predicates(superuser, sessions, engine)

        found = {violation.partition(":")[0] for violation in violations}
        owned = {"scenario", "notification", "delivery"}
        assert found >= {str(route) for route in ROUTES if any(slot.kind in owned for slot in route.slots)}
        # Mine without an id of mine in them.
        assert found >= {"GET /v1/contact-points", "DELETE /v1/contact-points/{channel}"}


PREDICATE = re.compile(r"\b(?!users\b)\w+\.(tenant_id|user_id) = (\$\d+::UUID)")


async def try_without_predicates(settings: Settings, sessions: Sessions, engine: AsyncEngine) -> list[str]:
    """Return what everybody gets out of an api whose queries ask neither for the tenant nor for the user."""
    violations: list[str] = []
    dropped = 0

    def drop_predicates(
        _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: Any
    ) -> tuple[str, Any]:
        nonlocal dropped
        statement, count = PREDICATE.subn(r"\2 IS NOT NULL", statement)
        dropped += count
        return statement, parameters

    # What goes wrong is expected, and need not be printed.
    async with running_app(settings, MemoryQueue()) as app, silenced_logs():
        bind = app.state.runtime.sessions.kw["bind"]
        sa.event.listen(bind.sync_engine, "before_cursor_execute", drop_predicates, retval=True)
        for route in ROUTES:
            world = await make_world(sessions)
            try:
                violations += [problem async for problem in find_violations(app, engine, world, route, Counter())]
            except sa.exc.SQLAlchemyError as error:
                violations.append(f"{route}: {error}")
    assert dropped > len(ROUTES)
    return violations


@asynccontextmanager
async def silenced_logs() -> AsyncIterator[None]:
    with capture_logs():
        yield

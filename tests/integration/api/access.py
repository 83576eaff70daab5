"""What the access matrix is made of: the routes with their ids, the people with their rows, and one attempt."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeAlias
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from typing_extensions import override

from api.scopes import Scope
from shared.clock import utc_now
from shared.ids import new_id
from shared.models import Base, Delivery, DeliveryReason, DeliveryStatus, Event, Execution, Tenant, TestScenario, User
from shared.signing import add_secret, make_secret
from tests.factories import (
    NOON,
    make_api_key,
    make_attempt,
    make_contact_point,
    make_delivery,
    make_event,
    make_execution,
    make_notification,
    make_scenario,
    make_subscription,
    make_tenant,
    make_user,
)
from tests.integration.api.clients import CIPHER, SECRET, client_of, token_for

CODE = "123456"
METHODS = {"get", "put", "post", "patch", "delete"}

# What the ids of a request name, by the name of the parameter or member. An unknown name fails the matrix.
KINDS = {
    "scenario_id": "scenario",
    "notification_id": "notification",
    "up_to": "notification",
    "delivery_id": "delivery",
    "cursor": "cursor",
    # The catalogue is the same for everybody: its names are no secret of anyone.
    "event_type": "public",
    "limit": "public",
    # Of the caller: each has one contact point on it at most.
    "channel": "public",
    # A name within the caller's tenant: the state of the other one tells whether it stayed there.
    "external_id": "public",
}


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in a request that names something which belongs to somebody."""

    place: str
    name: str
    required: bool

    @property
    def kind(self) -> str:
        """What it names."""
        return KINDS[self.name]


@dataclass(frozen=True, slots=True)
class Route:
    """An operation of the document with all its slots."""

    method: str
    path: str
    slots: tuple[Slot, ...]
    for_programs: bool

    @override
    def __str__(self) -> str:
        return f"{self.method} {self.path}"


Values: TypeAlias = dict[Slot, str]


def find_routes(document: dict[str, Any]) -> Iterator[Route]:
    """Yield every operation of an OpenAPI document that asks who calls; what does not has its own tests."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method in METHODS and operation.get("security") != []:
                schemes = {scheme for requirement in operation.get("security", []) for scheme in requirement}
                slots = tuple(_find_slots(document, operation))
                yield Route(method.upper(), path, slots, for_programs="apiKeyAuth" in schemes)


def _find_slots(document: dict[str, Any], operation: dict[str, Any]) -> Iterator[Slot]:
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path" or (parameter["in"] == "query" and _names_something(parameter)):
            yield Slot(parameter["in"], parameter["name"], parameter.get("required", False))
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = _resolve(document, content["schema"])
        for name, member in schema.get("properties", {}).items():
            if "uuid" in json.dumps(member):
                yield Slot("body", name, name in schema.get("required", []))


def _names_something(parameter: dict[str, Any]) -> bool:
    return "uuid" in json.dumps(parameter["schema"]) or parameter["name"] == "cursor"


def _resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody, and what is theirs by kind."""

    label: str
    tenant: str
    external_id: str
    same_tenant: bool
    ids: dict[str, str] = field(default_factory=dict)
    # What nobody else may read; the first part not even people of the same tenant.
    private: tuple[str, ...] = ()
    internal: tuple[str, ...] = ()
    api_key: str = ""

    def token(self, **claims: Any) -> str:
        return token_for(self.external_id, self.tenant, **claims)

    def authorization(self) -> str:
        return f"Bearer {self.api_key or self.token()}"

    def may_use(self, route: Route) -> bool:
        """Tell whether the route is for callers of this kind."""
        return route.for_programs == bool(self.api_key)


@dataclass(frozen=True, slots=True)
class World:
    """A victim, and the others: of the same tenant, of another one, of the same name elsewhere, never seen before.

    Programs are others too, and one of the victim's tenant is the victim's own where people have no access.
    """

    victim: Person
    program: Person
    bad_api_keys: dict[str, str]
    others: tuple[Person, ...]
    tenant_id: str
    victim_id: str

    def owner_of(self, route: Route) -> Person:
        """Return whose rows the route is for."""
        return self.program if route.for_programs else self.victim

    def strangers_to(self, route: Route) -> tuple[Person, ...]:
        """Return all others."""
        return tuple(person for person in self.others if person is not self.owner_of(route))

    def foreign_to(self, person: Person, slot: Slot) -> bool:
        """Tell whether what the victim has in this slot is none of the person's business."""
        return slot.kind in {"notification", "delivery", "cursor"} or (
            slot.kind == "scenario" and not person.same_tenant
        )

    def secrets_from(self, person: Person) -> tuple[str, ...]:
        return self.victim.private if person.same_tenant else self.victim.private + self.victim.internal


async def make_world(sessions: async_sessionmaker[AsyncSession]) -> World:
    """Add two tenants, and in both of them people with rows in every table."""
    suffix = uuid4().hex[:8]
    async with sessions.begin() as session:
        ours, theirs = [await make_tenant(session, f"{name}-{suffix}") for name in ("ours", "theirs")]
        alice = await make_user(session, ours, "alice", name=f"Alice {uuid4().hex}")
        victim = await _furnish(session, ours, alice, "the owner")
        others = [
            await _furnish(session, tenant, await make_user(session, tenant, name), label)
            for tenant, name, label in (
                (ours, "bob", "another user of the tenant"),
                (theirs, "mallory", "a user of another tenant"),
                (theirs, "alice", "the namesake in another tenant"),
            )
        ]
        (_, our_key), (_, their_key) = [await make_api_key(session, tenant, *Scope) for tenant in (ours, theirs)]
        _, expired = await make_api_key(session, ours, *Scope, expires_at=NOON)
        key, revoked = await make_api_key(session, ours, *Scope)
        key.revoke(actor="a test", at=NOON)
    newcomers = [
        Person(f"a newcomer to the {label} tenant", tenant.slug, "newcomer", same_tenant=tenant is ours)
        for tenant, label in ((ours, "same"), (theirs, "other"))
    ]
    programs = [
        Person(f"a program of the {label} tenant", tenant.slug, "", tenant is ours, owned, api_key=api_key)
        for tenant, label, owned, api_key in ((ours, "same", victim.ids, our_key), (theirs, "other", {}, their_key))
    ]
    bad_api_keys = {
        "revoked key": revoked,
        "expired key": expired,
        "unknown key": f"{our_key[:4]}{'a' * 12}{our_key[16:]}",
        "key with another secret": our_key[:17] + their_key[17:],
        "part of a key": our_key[:16],
    }
    return World(victim, programs[0], bad_api_keys, (*others, *newcomers, *programs), str(ours.id), str(alice.id))


async def _furnish(session: AsyncSession, tenant: Tenant, user: User, label: str) -> Person:
    """Give a user two rows of everything: lists have a second page, and a change of one leaves another."""
    [(scenario, event, executions, delivery), _] = [await _furnish_scenario(session, user) for _ in range(2)]
    await make_subscription(session, user, event_type="scenario.executed")
    addresses = await _furnish_contact_points(session, user)
    return Person(
        label,
        tenant.slug,
        user.external_id,
        tenant.slug.startswith("ours"),
        {"scenario": str(scenario.id), "notification": str(event.id), "delivery": str(delivery.id)},
        private=(str(event.id), str(delivery.id), user.name, *addresses),
        internal=(str(scenario.id), scenario.name, str(user.id), *(str(execution.id) for execution in executions)),
    )


async def _furnish_contact_points(session: AsyncSession, user: User) -> list[str]:
    """Give a user a webhook, and an e-mail address that is waiting for its code; return what nobody else may read."""
    addresses = [f"{uuid4().hex}@example.com", f"https://{uuid4().hex}.example.com/hook"]
    email, webhook = [
        await make_contact_point(
            session,
            user,
            channel=channel,
            encrypted_address=CIPHER.encrypt(user.tenant_id, address),
            masked_address=address,
        )
        for channel, address in zip(("email", "webhook"), addresses, strict=True)
    ]
    email.verified_at = None
    email.expect_code(CODE, at=utc_now(), until=utc_now() + timedelta(hours=1))
    secrets = add_secret(None, make_secret(), at=NOON)
    webhook.encrypted_secrets = CIPHER.encrypt(user.tenant_id, secrets)
    return addresses


async def _furnish_scenario(session: AsyncSession, user: User) -> tuple[TestScenario, Event, list[Execution], Delivery]:
    scenario = await make_scenario(session, user, f"Scenario {uuid4().hex}")
    executions = [await make_execution(session, scenario, user) for _ in range(2)]
    event = await make_event(
        session, scenario, user, published_at=scenario.created_at, dead_lettered_at=scenario.created_at
    )
    await make_notification(session, user, event)
    delivery = await make_delivery(
        session, user, event, status=DeliveryStatus.FAILED, reason=DeliveryReason.EXPIRED, ended_at=NOON
    )
    await make_attempt(session, delivery)
    await make_subscription(session, user, scenario_id=scenario.id)
    return scenario, event, executions, delivery


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request and its answer, told apart from others by nothing that the caller chose."""

    status: int
    body: str
    headers: dict[str, str]


# What differs between two equal answers.
VOLATILE_HEADERS = {"x-request-id", "date", "content-length", "ratelimit", "etag", "idempotency-key"}


async def attempt(
    app: FastAPI, route: Route, values: Values, example: dict[str, Any] | None, *, authorization: str = ""
) -> Attempt:
    """Send the request with these values in its slots."""
    path, query, body = route.path, {}, dict(example) if example is not None else None
    for slot, value in values.items():
        match slot.place:
            case "path":
                path = path.replace(f"{{{slot.name}}}", quote(value, safe=""))
            case "query":
                query[slot.name] = value
            case _:
                body = {**(body or {}), slot.name: value}
    headers = {"X-Request-Id": "attempt"} | ({"Authorization": authorization} if authorization else {})
    async with client_of(app) as client:
        response: httpx.Response = await client.request(route.method, path, params=query, json=body, headers=headers)
    told = response.text.replace(path, "PATH")
    for slot, value in values.items():
        if slot.kind != "public":
            told = told.replace(value, "VALUE")
    kept = {name: value for name, value in response.headers.items() if name not in VOLATILE_HEADERS}
    return Attempt(response.status_code, told, kept)


def bad_authorizations(world: World) -> dict[str, str]:
    """Return what lets nobody in, by what is wrong with it."""
    person = world.victim
    tokens = {
        "expired": person.token(exp=1),
        "not yet valid": person.token(nbf=4102444800),
        "wrong audience": person.token(aud="somebody else"),
        "wrong issuer": person.token(iss="somebody else"),
        "no subject": person.token(sub=""),
        "no expiry": person.token(exp=None),
        "unknown tenant": token_for(person.external_id, "nowhere"),
        "unknown tenant id": token_for(person.external_id, str(new_id())),
        "forged signature": person.token()[:-10] + "A" * 10,
        "no signature": person.token().rpartition(".")[0] + ".",
        "the secret itself": quote(SECRET),
        "nonsense": "nonsense",
        **world.bad_api_keys,
    }
    return {label: f"Bearer {token}" for label, token in tokens.items()}


# The relay is at work meanwhile; it may change these, and nobody is told of them.
OF_THE_RELAY = "- 'claimed_until' - 'published_at'"


async def fingerprint(engine: AsyncEngine, world: World, *, whole_tenant: bool) -> str:
    """Return a digest of all the victim has, or of all their tenant has."""
    owner, value = ("tenant_id", world.tenant_id) if whole_tenant else ("user_id", world.victim_id)
    tables = [name for name, table in Base.metadata.tables.items() if owner in table.columns]
    rows = " UNION ALL ".join(
        f"SELECT '{table}' || (to_jsonb({table}) {OF_THE_RELAY})::text FROM {table} WHERE {owner} = :value"  # noqa: S608
        for table in tables
    )
    query = text(f"SELECT md5(string_agg(row, '' ORDER BY row)) FROM ({rows}) AS rows (row)")  # noqa: S608 - as above
    async with engine.connect() as connection:
        return str(await connection.scalar(query, {"value": UUID(value)}))

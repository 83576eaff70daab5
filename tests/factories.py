"""Rows for tests, with everything a test does not mention filled in.

Each function adds to the session and flushes; committing is the test's business.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from shared.ids import new_id
from shared.models import (
    ApiKey,
    Base,
    ContactPoint,
    Delivery,
    DeliveryAttempt,
    DeliveryStatus,
    Event,
    Execution,
    IdempotencyKey,
    NotificationSubscription,
    Reason,
    SendPurpose,
    SendQuota,
    SubscriptionLevel,
    Tenant,
    TestScenario,
    User,
    UserNotification,
)

Row = TypeVar("Row", bound=Base)

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


async def make_tenant(session: AsyncSession, slug: str = "demo") -> Tenant:
    """Add a tenant."""
    return await _add(session, Tenant(id=new_id(), slug=slug, name=slug.title()))


async def make_user(session: AsyncSession, tenant: Tenant, external_id: str = "alice", **columns: Any) -> User:
    """Add a user of the tenant."""
    user = User(tenant_id=tenant.id, id=new_id(), external_id=external_id, name=external_id.title())
    return await _add(session, user, **columns)


async def make_users(session: AsyncSession, tenant: Tenant, count: int) -> list[User]:
    """Add many users of the tenant."""
    users = [User(tenant_id=tenant.id, id=new_id(), external_id=f"user-{n}", name=f"User {n}") for n in range(count)]
    session.add_all(users)
    await session.flush()
    return users


async def make_api_key(
    session: AsyncSession,
    tenant: Tenant,
    *scopes: str,
    expires_at: datetime | None = None,
    created_at: datetime = NOON,
) -> tuple[ApiKey, str]:
    """Add an API key of the tenant and return it with its text."""
    key, text = ApiKey.create(tenant.id, "ci", scopes=scopes, expires_at=expires_at, actor="a test", at=created_at)
    return await _add(session, key), text


async def make_scenario(session: AsyncSession, actor: User, name: str = "Checkout", **columns: Any) -> TestScenario:
    """Add a scenario of the actor's tenant, without the event that its creation would record."""
    scenario = TestScenario.create(name, actor=actor, at=NOON)
    scenario.take_recorded()
    return await _add(session, scenario, **columns)


async def make_execution(session: AsyncSession, scenario: TestScenario, actor: User, **columns: Any) -> Execution:
    """Add a run of the scenario, without the event that it would record."""
    execution = Execution(
        tenant_id=scenario.tenant_id, id=new_id(), scenario_id=scenario.id, executed_by=actor.id, executed_at=NOON
    )
    return await _add(session, execution, **columns)


async def make_event(session: AsyncSession, scenario: TestScenario, actor: User, **columns: Any) -> Event:
    """Add an event, `scenario.executed` unless said otherwise."""
    event = Event(
        tenant_id=scenario.tenant_id,
        id=new_id(),
        event_type="scenario.executed",
        scenario_id=scenario.id,
        actor_id=actor.id,
        snapshot={
            "scenario": {"id": str(scenario.id), "name": scenario.name},
            "actor": {"id": str(actor.id), "external_id": actor.external_id, "name": actor.name},
            "execution": {"id": str(new_id()), "outcome": "passed", "duration_ms": 1200, "url": None},
        },
        occurred_at=NOON,
    )
    return await _add(session, event, **columns)


async def make_subscription(
    session: AsyncSession,
    user: User,
    *,
    event_type: str | None = None,
    scenario_id: UUID | None = None,
    level: SubscriptionLevel = SubscriptionLevel.ALL,
) -> NotificationSubscription:
    """Add a rule for an event type or for a scenario."""
    rule = NotificationSubscription(
        tenant_id=user.tenant_id,
        id=new_id(),
        user_id=user.id,
        event_type=event_type,
        scenario_id=scenario_id,
        level=level,
        channels=["in_app"] if event_type else [],
    )
    return await _add(session, rule)


async def make_contact_point(session: AsyncSession, user: User, **columns: Any) -> ContactPoint:
    """Add a verified contact point of the user, `email` unless said otherwise; its address is not encrypted."""
    address = f"{user.external_id}@example.com"
    point = ContactPoint(
        tenant_id=user.tenant_id,
        id=new_id(),
        user_id=user.id,
        channel="email",
        encrypted_address=address,
        masked_address=f"{address[0]}…@example.com",
        verified_at=NOON,
    )
    return await _add(session, point, **columns)


async def make_send_quota(session: AsyncSession, user: User, **columns: Any) -> SendQuota:
    """Add what is left of the user's quota of codes for e-mail after the first one."""
    quota = SendQuota(
        tenant_id=user.tenant_id,
        user_id=user.id,
        channel="email",
        purpose=SendPurpose.CODE,
        window_started_at=NOON,
        sent_count=1,
        sent_at=NOON,
    )
    return await _add(session, quota, **columns)


async def make_idempotency_key(session: AsyncSession, user: User, **columns: Any) -> IdempotencyKey:
    """Add the answer to a request of the user."""
    key = IdempotencyKey(
        tenant_id=user.tenant_id,
        caller_id=user.id,
        key=str(new_id()),
        fingerprint=b"",
        status=201,
        headers={},
        body=user.name.encode(),
        expires_at=datetime.now(UTC) + timedelta(hours=1),
    )
    return await _add(session, key, **columns)


async def make_notification(session: AsyncSession, user: User, event: Event, **columns: Any) -> UserNotification:
    """Add a notification of the event to the user's inbox, unread unless said otherwise."""
    notification = UserNotification(
        tenant_id=user.tenant_id, user_id=user.id, event_id=event.id, reason=Reason.SUBSCRIBED
    )
    return await _add(session, notification, **columns)


async def make_delivery(session: AsyncSession, user: User, event: Event, **columns: Any) -> Delivery:
    """Add the delivery of the user's notification of the event, pending on `email` unless said otherwise."""
    delivery = Delivery(
        tenant_id=user.tenant_id,
        id=new_id(),
        user_id=user.id,
        event_id=event.id,
        channel="email",
        status=DeliveryStatus.PENDING,
        expires_at=datetime.now(UTC) + timedelta(days=4),
    )
    return await _add(session, delivery, **columns)


async def make_attempt(session: AsyncSession, delivery: Delivery, **columns: Any) -> DeliveryAttempt:
    """Add the first attempt at a delivery, under way unless said otherwise."""
    attempt = DeliveryAttempt(tenant_id=delivery.tenant_id, delivery_id=delivery.id, number=1, started_at=NOON)
    return await _add(session, attempt, **columns)


async def _add(session: AsyncSession, row: Row, **columns: Any) -> Row:
    for name, value in columns.items():
        setattr(row, name, value)
    session.add(row)
    await session.flush()
    return row

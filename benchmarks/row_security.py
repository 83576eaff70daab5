"""What row-level security costs: the inbox and the fan-out, with and without it, in one run.

Both sides use the same tables, rows, logins and connections; between the rounds the policies are switched off and on
again. `python -m benchmarks.row_security --help` lists the options; `make bench-isolation` runs it with the defaults.
"""

import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias
from uuid import UUID

from cyclopts import App
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from api.authentication import Identity
from api.notifications import repository
from api.notifications.schemas import NotificationQuery
from api.pagination import Window
from api.users.repository import find_user
from local.postgres import EmbeddedPostgres
from local.roles import grant_roles
from local.system import LOGINS
from shared.clock import utc_now
from shared.db import create_engine, create_sessions
from shared.ids import new_id
from shared.logging import configure_logging
from shared.models import Base, Tenant, User
from shared.queue import Envelope, ReceivedMessage
from shared.schema import migrate
from shared.settings import DatabaseSettings, LogSettings
from worker.fanout import FanOut

DATABASE = "benchmark"
# As in production the owner is no superuser, so that its checks of foreign keys are subject to what they would be.
OWNER = "migrator"
READER = Identity(tenant="tenant-0", external_id="user-0", name="Reader", email=None, locale=None)
EVENT_TYPE = "scenario.executed"

MAKE_PEOPLE = """
    INSERT INTO users (tenant_id, id, external_id, name)
    SELECT :tenant, gen_random_uuid(), 'user-' || n, 'User ' || n FROM generate_series(0, :count - 1) AS n
"""
MAKE_SUBSCRIPTIONS = """
    INSERT INTO notification_subscriptions (tenant_id, id, user_id, event_type, channels)
    SELECT tenant_id, gen_random_uuid(), id, 'scenario.executed', '{in_app}' FROM users WHERE tenant_id = :tenant
"""
MAKE_SCENARIO = """
    INSERT INTO test_scenarios (tenant_id, id, name, labels, created_by, created_at)
    SELECT tenant_id, :scenario, 'Checkout', '{}', id, now()
      FROM users WHERE tenant_id = :tenant AND external_id = 'user-1'
"""
MAKE_EVENTS = """
    INSERT INTO events (tenant_id, id, event_type, scenario_id, actor_id, snapshot, occurred_at, published_at)
    SELECT scenario.tenant_id, taken.id, 'scenario.executed', scenario.id, created_by,
           '{"scenario": {"name": "Checkout"}}', now(), now()
      FROM test_scenarios AS scenario, unnest(CAST(:ids AS uuid[])) AS taken (id)
     WHERE scenario.id = :scenario
"""
# Each user of the tenant has been told of so many events.
FILL_INBOXES = """
    INSERT INTO user_notifications (tenant_id, user_id, event_id, reason)
    SELECT users.tenant_id, users.id, events.id, 'subscribed'
      FROM users JOIN events USING (tenant_id)
     WHERE tenant_id = :tenant
     ORDER BY users.id, events.id
"""

EXPLAIN = "ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF"
LIST = """
    SELECT event_id
      FROM user_notifications
     WHERE tenant_id = :tenant AND user_id = :user
     ORDER BY event_id DESC
     LIMIT 21
"""

Measured: TypeAlias = dict[str, dict[bool, list[float]]]

app = App(help=__doc__)


@app.default
async def main(*, rounds: int = 12, repeats: int = 200, users: int = 1000, inbox: int = 200, fan_outs: int = 6) -> None:
    """Fill a database of its own, measure in alternating rounds, and print medians and ratios.

    Parameters
    ----------
    rounds:
        How often the policies are switched off and on again.
    repeats:
        How often the inbox is asked for in each half of a round.
    users:
        People in each of the two tenants, all of them subscribed.
    inbox:
        Notifications that each of them has at the start.
    fan_outs:
        Events that are told to everybody, one by one, in each half of a round.
    """
    configure_logging(LogSettings(format="console", level="warning"))
    measured: Measured = {}
    with (
        TemporaryDirectory(prefix="benchmark-") as directory,
        EmbeddedPostgres(Path(directory), durable=False) as server,
    ):
        async with opened(server) as (superuser, api, worker):
            scenarios = await fill(superuser, users=users, inbox=inbox)
            for number in range(rounds):
                # The order changes with every round: what grows, grows for both.
                for protected in (number % 2 == 0, number % 2 == 1):
                    await switch(superuser, protected=protected)
                    await measure_inbox(create_sessions(api), measured, repeats, protected=protected)
                    await measure_fan_out(superuser, worker, scenarios[0], measured, fan_outs, protected=protected)
            await show_plans(create_sessions(api))
    show(measured)


@asynccontextmanager
async def opened(server: EmbeddedPostgres) -> AsyncIterator[tuple[AsyncEngine, AsyncEngine, AsyncEngine]]:
    """Yield engines of a superuser, of the api and of the worker, on a database that its owner has migrated."""
    server.create_database(DATABASE)
    users = ["postgres", OWNER, LOGINS["api"].name, LOGINS["worker"].name]
    superuser, owner, api, worker = (connect(server.dsn(DATABASE, user=user)) for user in users)
    try:
        async with superuser.begin() as connection:
            await connection.execute(text(f"CREATE ROLE {OWNER} LOGIN CREATEROLE"))
            await connection.execute(text(f"ALTER DATABASE {DATABASE} OWNER TO {OWNER}"))
        await migrate(owner)
        await grant_roles(superuser, *LOGINS.values())
        yield superuser, api, worker
    finally:
        for engine in (superuser, owner, api, worker):
            await engine.dispose()


def connect(url: str) -> AsyncEngine:
    """Return an engine with the settings of a process."""
    settings = DatabaseSettings.model_validate({"url": url, "statement_timeout": 60})
    return create_engine(settings, application_name="benchmark")


async def fill(engine: AsyncEngine, *, users: int, inbox: int) -> list[UUID]:
    """Add two tenants with people, subscriptions and full inboxes, and return a scenario of each."""
    scenarios = []
    for number in range(2):
        tenant, scenario = new_id(), new_id()
        values = {"tenant": tenant, "count": users, "scenario": scenario, "ids": [new_id() for _ in range(inbox)]}
        async with create_sessions(engine).begin() as session:
            session.add(Tenant(id=tenant, slug=f"tenant-{number}", name=f"Tenant {number}"))
            await session.flush()
            for statement in (MAKE_PEOPLE, MAKE_SUBSCRIPTIONS, MAKE_SCENARIO, MAKE_EVENTS, FILL_INBOXES):
                used = {name: value for name, value in values.items() if f":{name}" in statement}
                await session.execute(text(statement), used)
            await session.execute(text("UPDATE events SET fanned_out_at = now()"))
        scenarios.append(scenario)
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.execute(text("VACUUM ANALYZE"))
    return scenarios


async def switch(engine: AsyncEngine, *, protected: bool) -> None:
    """Switch the policies of all tables on or off."""
    verb = "ENABLE" if protected else "DISABLE"
    async with engine.begin() as connection:
        for table in Base.metadata.tables.values():
            if "tenant_id" in table.columns:
                await connection.execute(text(f"ALTER TABLE {table.name} {verb} ROW LEVEL SECURITY"))


async def measure_inbox(
    sessions: async_sessionmaker[AsyncSession], measured: Measured, repeats: int, *, protected: bool
) -> None:
    """Measure what a request for the inbox asks of the database: signing in, the page, the counts."""
    query = NotificationQuery()
    async with sessions() as session:
        for number in range(-repeats // 4, repeats):
            began = time.perf_counter()
            me = await find_user(READER, session)
            if me is None:
                raise LookupError(READER)
            signed_in = time.perf_counter()
            rows = await repository.list_notifications(me, session, query, Window.of(query, me))
            listed = time.perf_counter()
            await repository.count_notifications(me, session)
            counted = time.perf_counter()
            await session.commit()
            session.info.clear()
            session.expunge_all()
            ended = time.perf_counter()
            if len(rows) != query.limit + 1:
                raise LookupError(rows)
            if number >= 0:
                note(measured, "sign in (2 statements)", signed_in - began, protected=protected)
                note(measured, "list of 20", listed - signed_in, protected=protected)
                note(measured, "counts", counted - listed, protected=protected)
                note(measured, "inbox, the whole transaction", ended - began, protected=protected)
        for number in range(-repeats // 4, repeats):
            joined = select(User).join(Tenant, Tenant.id == User.tenant_id)
            began = time.perf_counter()
            await session.scalar(joined.where(Tenant.slug == READER.tenant, User.external_id == READER.external_id))
            ended = time.perf_counter()
            await session.commit()
            session.expunge_all()
            if number >= 0 and not protected:
                note(measured, "sign in (1 statement, as before)", ended - began, protected=False)


async def measure_fan_out(  # noqa: PLR0913 - what it measures, with what, into what
    superuser: AsyncEngine,
    worker: AsyncEngine,
    scenario: UUID,
    measured: Measured,
    fan_outs: int,
    *,
    protected: bool,
) -> None:
    """Measure the worker's transaction that tells everybody of one event."""
    ids = [new_id() for _ in range(fan_outs + 1)]
    async with superuser.begin() as connection:
        await connection.execute(text(MAKE_EVENTS), {"ids": ids, "scenario": scenario})
        tenant: UUID = await connection.scalar(text("SELECT id FROM tenants WHERE slug = 'tenant-0'"))
    handler = FanOut(worker, chunk_size=5000, transaction_timeout=timedelta(seconds=60), expire_after=timedelta(days=4))
    for number, event_id in enumerate(ids):
        envelope = Envelope(id=event_id, tenant_id=tenant, type=EVENT_TYPE, subject=scenario, occurred_at=utc_now())
        message = ReceivedMessage(id="1", body=envelope.to_json(), receipt="1", receive_count=1, sent_at=utc_now())
        duration = await timed(lambda message=message: handler.handle([message]))
        if number:
            note(measured, "fan-out of one event", duration, protected=protected)
    # The inboxes are as full for the next round as they were for this one.
    async with superuser.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.execute(text("DELETE FROM user_notifications WHERE event_id = ANY(:ids)"), {"ids": ids})
        await connection.execute(text("VACUUM user_notifications"))


async def timed(action: Callable[[], Awaitable[object]]) -> float:
    """Return how many seconds it takes."""
    began = time.perf_counter()
    await action()
    return time.perf_counter() - began


def note(measured: Measured, name: str, seconds: float, *, protected: bool) -> None:
    """Keep one measurement."""
    measured.setdefault(name, {True: [], False: []})[protected].append(seconds)


async def show_plans(sessions: async_sessionmaker[AsyncSession]) -> None:
    """Print how PostgreSQL reads the settings: once, as InitPlan."""
    async with sessions() as session:
        me = await find_user(READER, session)
        if me is None:
            raise LookupError(READER)
        parameters = {"tenant": me.tenant_id, "user": me.id}
        plan = await session.scalars(text(f"EXPLAIN ({EXPLAIN}) {LIST}"), parameters)
        print("\n".join(plan))


def show(measured: Measured) -> None:
    """Print the medians."""
    print(f"\n{'median of all rounds':<34} {'without':>10} {'with':>10} {'ratio':>7}")
    for name, sides in measured.items():
        without, protected = (statistics.median(sides[side]) * 1000 if sides[side] else None for side in (False, True))
        row = f"{name:<34} " + " ".join(
            f"{value:>7.3f} ms" if value else f"{'-':>10}" for value in (without, protected)
        )
        print(row + (f" {protected / without:>7.2f}" if without and protected else ""))


if __name__ == "__main__":
    app()

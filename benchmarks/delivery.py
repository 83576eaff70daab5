"""Sending beside what the client alone can do, servers that hang, and what two channels cost the fan-out.

All sides of a ratio are measured in the same run. `python -m benchmarks.delivery --help` lists the options;
`make bench-delivery` runs it with the defaults.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import uvloop
from cryptography.fernet import Fernet
from cyclopts import App
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks import sink
from local.postgres import EmbeddedPostgres
from local.roles import grant_roles
from local.system import LOGINS
from shared.addresses import parse_address
from shared.channel import EMAIL, SLACK, WEBHOOK, OutboundMessage
from shared.channels.webhook import WebhookChannel
from shared.clock import utc_now
from shared.db import create_engine
from shared.encryption import Cipher
from shared.ids import new_id
from shared.logging import configure_logging
from shared.messages import Occurrence, Reader, render_content
from shared.outbound import OutboundSettings, open_outbound
from shared.queue import Envelope, ReceivedMessage
from shared.schema import migrate
from shared.settings import DatabaseSettings, LogSettings
from shared.signing import make_secret
from worker.fanout import FanOut

DATABASE = "benchmark"
KEY = Fernet.generate_key().decode()
LOOPBACK = "127.0.0.0/8"
CHECK_INTERVAL = timedelta(milliseconds=100)
# Time enough for a worker to finish what can be finished; servers that hang never do.
DEADLINE = timedelta(seconds=90)
SNAPSHOT = {
    "scenario": {"id": "0", "name": "Checkout"},
    "actor": {"id": "0", "external_id": "alice", "name": "Alice"},
    "execution": {"id": "0", "outcome": "passed", "duration_ms": 1200, "url": None},
}

ADD_TENANTS = "INSERT INTO tenants (id, slug, name) SELECT id, id, 'Tenant' FROM unnest(CAST(:tenants AS uuid[])) AS id"
ADD_PEOPLE = """
    INSERT INTO users (tenant_id, id, external_id, name)
    SELECT tenant_id, id, id, 'Person' FROM unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS p (tenant_id, id)
"""
ADD_CONTACT_POINTS = """
    INSERT INTO contact_points (tenant_id, id, user_id, channel, encrypted_address, masked_address, endpoint,
                                encrypted_secrets, verified_at)
    SELECT tenant_id, new_id(), user_id, 'webhook', address, 'https://…', endpoint, secrets, now()
      FROM unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[]), CAST(:addresses AS text[]),
                  CAST(:endpoints AS text[]), CAST(:secrets AS text[]))
           AS p (tenant_id, user_id, address, endpoint, secrets)
"""
ADD_SCENARIOS = """
    INSERT INTO test_scenarios (tenant_id, id, name, labels, created_by, created_at)
    SELECT DISTINCT ON (tenant_id) tenant_id, new_id(), 'Checkout', '{}', id, now() FROM users
     WHERE tenant_id = ANY (:tenants)
"""
ADD_EVENTS = """
    INSERT INTO events (tenant_id, id, event_type, scenario_id, actor_id, snapshot, occurred_at, published_at,
                        fanned_out_at)
    SELECT tenant_id, new_id(), 'scenario.executed', id, created_by, CAST(:snapshot AS jsonb), now(), now(), now()
      FROM test_scenarios, generate_series(1, :count)
     WHERE tenant_id = ANY (:tenants)
"""
ADD_NOTIFICATIONS = """
    INSERT INTO user_notifications (tenant_id, user_id, event_id, reason)
    SELECT tenant_id, users.id, events.id, 'subscribed' FROM users JOIN events USING (tenant_id)
     WHERE tenant_id = ANY (:tenants)
"""
ADD_DELIVERIES = """
    INSERT INTO deliveries (tenant_id, id, user_id, event_id, channel, endpoint, status, expires_at)
    SELECT tenant_id, new_id(), user_id, event_id, 'webhook', endpoint, 'pending', now() + interval '4 days'
      FROM user_notifications JOIN contact_points USING (tenant_id, user_id)
     WHERE tenant_id = ANY (:tenants)
     ORDER BY event_id
"""
# From when the worker began until the last message was recorded, and how long each had to wait.
RESULTS = """
    SELECT extract(epoch FROM attempt.ended_at - (SELECT min(started_at) FROM delivery_attempts))
      FROM delivery_attempts AS attempt
     WHERE result = 'delivered'
     ORDER BY 1
"""

app = App(help=__doc__)


@dataclass(frozen=True, slots=True)
class Database:
    """A database of its own, and how to reach it."""

    superuser: AsyncEngine
    worker: AsyncEngine
    worker_url: str


@app.default
def main(*, messages: int = 10_000, servers: int = 100, subscribers: int = 20_000, concurrency: int = 300) -> None:
    """Measure everything and print the figures.

    Parameters
    ----------
    messages:
        Webhook messages in each run.
    servers:
        How many servers they go to.
    subscribers:
        How many people one event is told to.
    concurrency:
        How many messages a worker, or the client alone, sends at the same time.
    """
    configure_logging(LogSettings(format="console", level="error"))
    hanging = range(0, servers, 10)
    with TemporaryDirectory(prefix="benchmark-") as directory:
        with sink.running(servers) as port:
            alone = uvloop.run(measure_client(port, messages, servers, concurrency))
            show("client alone", f"{alone:,.0f} messages/s")
            healthy = run_worker(Path(directory, "1"), port, messages, servers, concurrency)
        rate = len(healthy) / healthy[-1]
        show("worker", f"{rate:,.0f} messages/s")
        show("ratio", f"{rate / alone:.2f}")
        with sink.running(servers, hanging=hanging) as port:
            others = run_worker(Path(directory, "2"), port, messages, servers, concurrency, hanging=len(hanging))
        show("p99, all servers well", f"{p99(healthy):.2f} s")
        show(f"p99, {len(hanging)} of {servers} hang", f"{p99(others):.2f} s, of the others")
        show("ratio", f"{p99(others) / p99(healthy):.2f}")
        inbox, two = uvloop.run(measure_fan_outs(Path(directory, "3"), subscribers))
        show("fan-out, inbox only", f"{inbox:,.0f} notifications/s")
        show("fan-out, two channels", f"{two:,.0f} notifications/s")
        show("ratio", f"{two / inbox:.2f}")


def show(name: str, value: str) -> None:
    """Print a figure."""
    print(f"{name:<28} {value}", flush=True)


def p99(waits: list[float]) -> float:
    """Return how long all but one in a hundred waited at most."""
    return statistics.quantiles(waits, n=100)[98]


async def measure_client(port: int, count: int, servers: int, concurrency: int) -> float:
    """Return how many messages a second the channel sends when there is nothing to claim or to record."""
    occurrence = Occurrence(event_id=new_id(), event_type="scenario.executed", occurred_at=utc_now(), snapshot=SNAPSHOT)
    content = render_content(WEBHOOK, occurrence, Reader())
    secret = make_secret()
    numbers = iter(range(count))
    settings = OutboundSettings.model_validate({"allowed_networks": LOOPBACK})
    async with open_outbound(settings) as http:
        channel = WebhookChannel(http)

        async def send() -> None:
            for number in numbers:
                await channel.send(
                    OutboundMessage(
                        id=new_id(),
                        address=url(number % servers, port),
                        content=content,
                        created_at=utc_now(),
                        secrets=(secret,),
                    )
                )

        began = time.perf_counter()
        async with asyncio.TaskGroup() as senders:
            for _ in range(concurrency):
                senders.create_task(send())
        return count / (time.perf_counter() - began)


def run_worker(  # noqa: PLR0913 - what it is to do, and to whom
    directory: Path, port: int, messages: int, servers: int, concurrency: int, *, hanging: int = 0
) -> list[float]:
    """Let a worker send everything that can be sent, and return after how many seconds each message was delivered."""
    expected = messages // servers * (servers - hanging)

    async def run() -> list[float]:
        with EmbeddedPostgres(directory, durable=False) as server:
            async with opened(server) as database:
                await fill(database.superuser, port, messages, servers)
                async with worker_process(database, directory, concurrency):
                    async with asyncio.timeout(DEADLINE.total_seconds()):
                        while await count_delivered(database) < expected:  # noqa: ASYNC110 - the worker tells nobody
                            await asyncio.sleep(CHECK_INTERVAL.total_seconds())
                async with database.superuser.connect() as connection:
                    return [float(wait) for wait in await connection.scalars(text(RESULTS))]

    return uvloop.run(run())


@asynccontextmanager
async def opened(server: EmbeddedPostgres) -> AsyncIterator[Database]:
    """Yield a database with the newest schema."""
    server.create_database(DATABASE)
    worker_url = server.dsn(DATABASE, user=LOGINS["worker"].name)
    superuser, worker = connect(server.dsn(DATABASE)), connect(worker_url)
    try:
        await migrate(superuser)
        await grant_roles(superuser, *LOGINS.values())
        yield Database(superuser, worker, worker_url)
    finally:
        await superuser.dispose()
        await worker.dispose()


def connect(url: str) -> AsyncEngine:
    """Return an engine with the settings of a process."""
    settings = DatabaseSettings.model_validate({"url": url, "statement_timeout": 60})
    return create_engine(settings, application_name="benchmark")


@asynccontextmanager
async def worker_process(database: Database, directory: Path, concurrency: int) -> AsyncIterator[None]:
    """Run a worker that only delivers."""
    environment = os.environ | {
        "DATABASE_URL": database.worker_url,
        "ENCRYPTION_KEYS": KEY,
        "WEBHOOK_ENABLED": "true",
        "OUTBOUND_ALLOWED_NETWORKS": LOOPBACK,
        "DELIVERY_WEBHOOK_CONCURRENCY": str(concurrency),
        "WORKER_HEALTH_FILE": str(directory.with_suffix(".health")),
    }
    with directory.with_suffix(".log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "worker", "--only", "deliveries", env=environment, stdout=log, stderr=log
        )
        try:
            yield
        finally:
            # Messages to servers that hang would hold it for long.
            process.kill()
            await process.wait()


async def fill(engine: AsyncEngine, port: int, messages: int, servers: int) -> None:
    """Add ten tenants with a person for each server, and as many deliveries to each that they are so many in all."""
    cipher = Cipher([KEY])
    tenants = [new_id() for _ in range(10)]
    owners = [tenants[number % len(tenants)] for number in range(servers)]
    urls = [url(number, port) for number in range(servers)]
    secrets = json.dumps([{"secret": make_secret(), "expires_at": None}])
    await execute(engine, ADD_TENANTS, tenants=tenants)
    people = {"tenants": owners, "ids": [new_id() for _ in range(servers)]}
    await execute(engine, ADD_PEOPLE, **people)
    await execute(
        engine,
        ADD_CONTACT_POINTS,
        **people,
        addresses=[cipher.encrypt(tenant, address) for tenant, address in zip(owners, urls, strict=True)],
        endpoints=[parse_address(WEBHOOK, address).endpoint for address in urls],
        secrets=[cipher.encrypt(tenant, secrets) for tenant in owners],
    )
    await execute(engine, ADD_SCENARIOS, tenants=tenants)
    await execute(engine, ADD_EVENTS, tenants=tenants, count=messages // servers, snapshot=json.dumps(SNAPSHOT))
    await execute(engine, ADD_NOTIFICATIONS, tenants=tenants)
    await execute(engine, ADD_DELIVERIES, tenants=tenants)
    await analyse(engine)


def url(number: int, port: int) -> str:
    """Return the webhook of a server."""
    return f"http://{sink.host(number)}:{port}/hook"


async def count_delivered(database: Database) -> int:
    """Return how many messages were delivered so far."""
    async with database.superuser.connect() as connection:
        query = text("SELECT count(*) FROM deliveries WHERE status = 'delivered'")
        return int((await connection.execute(query)).scalar_one())


async def measure_fan_outs(directory: Path, subscribers: int) -> tuple[float, float]:
    """Return how many people are told in a second: by their inbox only, and by two channels beside it."""
    with EmbeddedPostgres(directory, durable=False) as server:
        async with opened(server) as database:
            handler = FanOut(
                database.worker,
                chunk_size=5000,
                transaction_timeout=timedelta(minutes=1),
                channels=[EMAIL, SLACK],
                expire_after=timedelta(days=4),
            )
            tenants = {name: await add_subscribers(database.superuser, subscribers, name) for name in (INBOX, TWO)}
            rates: dict[str, list[float]] = {INBOX: [], TWO: []}
            # The first round warms up.
            for number in range(4):
                for name, tenant in tenants.items():
                    rate = await measure_fan_out(database.superuser, handler, tenant, subscribers)
                    if number:
                        rates[name].append(rate)
    return statistics.median(rates[INBOX]), statistics.median(rates[TWO])


INBOX, TWO = "{in_app}", "{in_app,email,slack}"


async def add_subscribers(engine: AsyncEngine, count: int, channels: str) -> UUID:
    """Add a tenant whose people all subscribe to executions, by these channels, and can be reached there."""
    tenant = new_id()
    await execute(engine, ADD_TENANTS, tenants=[tenant])
    await execute(engine, ADD_PEOPLE, tenants=[tenant] * count, ids=[new_id() for _ in range(count)])
    await execute(
        engine,
        """
        INSERT INTO notification_subscriptions (tenant_id, id, user_id, event_type, channels)
        SELECT tenant_id, new_id(), id, 'scenario.executed', CAST(CAST(:channels AS text) AS text[]) FROM users
         WHERE tenant_id = :tenant
        """,
        tenant=tenant,
        channels=channels,
    )
    await execute(
        engine,
        """
        INSERT INTO contact_points (tenant_id, id, user_id, channel, encrypted_address, masked_address, verified_at)
        SELECT tenant_id, new_id(), id, channel, repeat('x', 160), 'x', now()
          FROM users, unnest(CAST(:channels AS text[])) AS channel
         WHERE tenant_id = :tenant
        """,
        tenant=tenant,
        channels=[EMAIL, SLACK],
    )
    await execute(engine, ADD_SCENARIOS, tenants=[tenant])
    await analyse(engine)
    return tenant


async def measure_fan_out(engine: AsyncEngine, handler: FanOut, tenant: UUID, subscribers: int) -> float:
    """Tell everybody of one event and return how many were told in a second."""
    await execute(engine, ADD_EVENTS, tenants=[tenant], count=1, snapshot=json.dumps(SNAPSHOT))
    async with engine.begin() as connection:
        query = text("""
            UPDATE events SET fanned_out_at = NULL
             WHERE id = (SELECT id FROM events WHERE tenant_id = :tenant ORDER BY id DESC LIMIT 1)
            RETURNING id, scenario_id
        """)
        event = (await connection.execute(query, {"tenant": tenant})).one()
    envelope = Envelope(
        id=event.id, tenant_id=tenant, type="scenario.executed", subject=event.scenario_id, occurred_at=utc_now()
    )
    message = ReceivedMessage(id="1", body=envelope.to_json(), receipt="1", receive_count=1, sent_at=utc_now())
    began = time.perf_counter()
    for _ in range(0, subscribers + 1, 5000):
        await handler.handle([message])
    return subscribers / (time.perf_counter() - began)


async def execute(engine: AsyncEngine, statement: str, **parameters: object) -> None:
    """Execute a statement in a transaction of its own."""
    async with engine.begin() as connection:
        await connection.execute(text(statement), parameters)


async def analyse(engine: AsyncEngine) -> None:
    """Let the planner know what is there."""
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.execute(text("VACUUM ANALYZE"))


if __name__ == "__main__":
    app()

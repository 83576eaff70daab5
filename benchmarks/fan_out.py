"""One event, a very large audience: how fast it is told, beside what PostgreSQL itself inserts, and in how much memory.

`python -m benchmarks.fan_out --help` lists the options; `make bench` runs it with the defaults.
"""

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import httpx
from cyclopts import App

from local import tokens
from local.demo import TENANT
from local.system import LocalSystem

CHECK_INTERVAL = timedelta(milliseconds=50)

ADD_SUBSCRIBERS = """
    WITH added AS (
        INSERT INTO users (tenant_id, id, external_id, name)
        SELECT tenants.id, gen_random_uuid(), 'subscriber-' || n, 'Subscriber ' || n
          FROM tenants, generate_series(1, $2) AS n
         WHERE slug = $1
        RETURNING tenant_id, id
    )
    INSERT INTO notification_subscriptions (tenant_id, id, user_id, event_type, channels)
    SELECT tenant_id, gen_random_uuid(), id, 'scenario.executed', '{in_app}' FROM added
"""

# The same rows in a table of the same shape, with the same indexes and foreign keys, in the same order.
MAKE_COPY = """
    CREATE TABLE plain (LIKE user_notifications INCLUDING ALL);
    ALTER TABLE plain ADD FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id);
    ALTER TABLE plain ADD FOREIGN KEY (tenant_id, event_id) REFERENCES events (tenant_id, id);
"""
COPY = "INSERT INTO plain SELECT * FROM user_notifications ORDER BY user_id, event_id"

app = App(help=__doc__)


@app.default
def main(*, subscribers: int = 200_000, port: int = 8099) -> None:
    """Start a system of its own, tell everybody of one execution, and print the figures.

    Parameters
    ----------
    subscribers:
        How many people subscribe to executions.
    port:
        A free port on 127.0.0.1.
    """
    with (
        TemporaryDirectory(prefix="benchmark-") as directory,
        LocalSystem(Path(directory), port=port, report=lambda line: print(f"  {line}")) as system,
    ):
        asyncio.run(measure(system, subscribers))


async def measure(system: LocalSystem, subscribers: int) -> None:
    """Add the subscribers, execute a scenario, watch the fan-out, compare."""
    connection = await asyncpg.connect(system.database_url)
    try:
        await connection.execute(ADD_SUBSCRIBERS, TENANT, subscribers)
        await connection.execute("ANALYZE")
        idle = memory(system)
        before = await connection.fetchval("SELECT count(*) FROM user_notifications")
        began = time.perf_counter()
        await execute_scenario(system)
        peak = await watch_fan_out(system, connection)
        fan_out = time.perf_counter() - began
        told = await connection.fetchval("SELECT count(*) FROM user_notifications") - before
        await connection.execute(MAKE_COPY)
        began = time.perf_counter()
        await connection.execute(COPY)
        plain = time.perf_counter() - began
    finally:
        await connection.close()
    print(f"notifications            {told:>12,} of {subscribers:,} expected")
    print(f"fan-out, request to end  {told / fan_out:>12,.0f} rows/s")
    print(f"plain INSERT … SELECT    {told / plain:>12,.0f} rows/s")
    print(f"ratio                    {plain / fan_out:>12.2f}")
    print(f"worker's memory, idle    {idle / 1024:>12.1f} MiB")
    print(f"worker's memory, peak    {peak / 1024:>12.1f} MiB ({peak / idle:.2f} of idle)")


async def execute_scenario(system: LocalSystem) -> None:
    """Execute the first scenario of the demo tenant, as a person who subscribes to nothing."""
    token = tokens.issue_token(tokens.ensure_secret(system.directory), user="alice", tenant=TENANT)
    async with httpx.AsyncClient(
        base_url=system.url, headers={"Authorization": f"Bearer {token}"}, trust_env=False
    ) as client:
        scenario = (await client.get("/v1/scenarios")).raise_for_status().json()["data"][0]
        (await client.post(f"/v1/scenarios/{scenario['id']}/executions", json={})).raise_for_status()


async def watch_fan_out(system: LocalSystem, connection: asyncpg.Connection) -> int:
    """Return the worker's largest memory, in KiB, once everybody has been told."""
    peak = memory(system)
    while await connection.fetchval("SELECT count(*) FROM events WHERE fanned_out_at IS NULL"):
        peak = max(peak, memory(system))
        await asyncio.sleep(CHECK_INTERVAL.total_seconds())
    return peak


def memory(system: LocalSystem) -> int:
    """Return the resident memory of the worker, in KiB (Linux only)."""
    status = Path(f"/proc/{system.worker_pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


if __name__ == "__main__":
    app()

"""The worker as a process of its own, on a real database and an SQS on loopback."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from shared.models import Event, User, UserNotification
from shared.queue import Envelope, OutgoingMessage
from shared.queue.sqs import SqsConfig, SqsQueue
from shared.signing import make_secret
from tests.factories import make_event, make_scenario, make_subscription, make_tenant, make_user, make_users
from tests.fixtures.deliveries import KEY, Person, add_contact_point
from tests.fixtures.sqs import take_dead_letters

Sessions = async_sessionmaker[AsyncSession]
Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start(worker_database_url: str, sqs_config: SqsConfig, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts workers with the settings of this test; none of them outlives it."""
    processes: list[Process] = []

    async def start_worker(*arguments: str, **settings: str) -> Process:
        environment = os.environ | {
            "DATABASE_URL": worker_database_url,
            "SQS_QUEUE_NAME": sqs_config.queue_name,
            "SQS_DEAD_LETTER_QUEUE_NAME": sqs_config.dead_letter_queue_name,
            "SQS_ENDPOINT_URL": str(sqs_config.endpoint_url),
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "WORKER_POLL_WAIT": "1",
            "WORKER_HEALTH_FILE": str(tmp_path / "health"),
            **settings,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "worker", *arguments, env=environment, stdout=PIPE, stderr=STDOUT
        )
        processes.append(process)
        return process

    yield start_worker
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def until_logged(process: Process, event: str) -> str:
    """Return the line of the log that names this event, as soon as it comes."""
    assert process.stdout
    lines: list[str] = []
    async for line in process.stdout:
        lines.append(line.decode())
        if event in lines[-1]:
            return lines[-1]
    raise AssertionError("".join(lines))


async def stopped(process: Process) -> tuple[int | None, str]:
    """Wait for the end of the process and return its exit status and the rest of its log."""
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def add_events(sessions: Sessions, *, subscriber_count: int, count: int) -> list[Event]:
    async with sessions.begin() as session:
        tenant = await make_tenant(session)
        author = await make_user(session, tenant)
        scenario = await make_scenario(session, author)
        for user in await make_users(session, tenant, subscriber_count):
            await make_subscription(session, user, event_type="scenario.executed")
        return [await make_event(session, scenario, author) for _ in range(count)]


async def publish(queue: SqsQueue, *events: Event) -> None:
    bodies = [
        Envelope(
            id=event.id,
            tenant_id=event.tenant_id,
            type=event.event_type,
            subject=event.scenario_id,
            occurred_at=event.occurred_at,
        ).to_json()
        for event in events
    ]
    messages = [OutgoingMessage(id=str(number), body=body) for number, body in enumerate(bodies)]
    assert await queue.send(messages) == []


async def count(sessions: Sessions, column: Any) -> int:
    async with sessions() as session:
        return await session.scalar(select(func.count(column))) or 0


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.05)


async def test_tells_everybody_and_stops_when_asked(
    start: Start, sqs_queue: SqsQueue, sqs_config: SqsConfig, engine: AsyncEngine, sessions: Sessions
):
    events = await add_events(sessions, subscriber_count=5, count=25)
    poisoned = events[7]
    async with engine.begin() as connection:
        await connection.execute(
            text(f"""
                CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                    IF NEW.event_id = '{poisoned.id}' THEN RAISE EXCEPTION 'poison'; END IF; RETURN NEW;
                END $$
            """)
        )
        await connection.execute(
            text("CREATE TRIGGER refuse BEFORE INSERT ON user_notifications FOR EACH ROW EXECUTE FUNCTION refuse()")
        )
    await publish(sqs_queue, *events, *events[:10])
    await sqs_queue.send([OutgoingMessage(id="broken", body="{}")])

    worker = await start()

    async def is_empty() -> bool:
        return (await sqs_queue.depth()).total == 0

    await until(is_empty)
    worker.send_signal(signal.SIGTERM)
    worker.send_signal(signal.SIGTERM)
    status, log = await stopped(worker)
    assert status == 0, log
    assert await count(sessions, UserNotification.event_id) == 24 * 5
    letters = await take_dead_letters(sqs_config)
    # The poisoned event was sent twice, and may have been given up twice.
    assert {letter.reason for letter in letters} == {"malformed_message", "handler_failed"}
    async with sessions() as session:
        [given_up] = (await session.scalars(select(Event).where(Event.dead_lettered_at.is_not(None)))).all()
    assert given_up.id == poisoned.id
    assert "poison" in str(given_up.dead_letter_reason)


async def test_a_stop_in_a_large_audience_loses_nothing(start: Start, sqs_queue: SqsQueue, sessions: Sessions):
    await publish(sqs_queue, *await add_events(sessions, subscriber_count=400, count=1))
    interrupted = await start(WORKER_CHUNK_SIZE="1")
    await until_logged(interrupted, "batch.fanned_out")

    interrupted.send_signal(signal.SIGTERM)
    status, log = await stopped(interrupted)

    assert status == 0, log
    assert 0 < await count(sessions, UserNotification.event_id) < 400
    following = await start()

    async def is_complete() -> bool:
        return await count(sessions, Event.fanned_out_at) == 1

    await until(is_complete)
    assert await count(sessions, UserNotification.event_id) == 400
    following.send_signal(signal.SIGINT)
    assert (await stopped(following))[0] == 0


async def listens(process: Process) -> bool:
    """Tell whether the process catches SIGTERM: Python needs a moment before it runs the first line of ours."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    [caught] = [int(line.split()[1], base=16) for line in status.splitlines() if line.startswith("SigCgt")]
    return bool(caught >> (signal.SIGTERM - 1) & 1)


@pytest.mark.usefixtures("sqs_queue")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says which signals a process catches")
@pytest.mark.timeout(120)
async def test_a_signal_at_any_moment_of_the_start_is_an_orderly_stop(start: Start):
    chance = Random(7)  # noqa: S311 - the same each time
    for _ in range(6):
        worker = await start()
        await until(partial(listens, worker))
        await asyncio.sleep(chance.random() * 1.5)
        worker.send_signal(signal.SIGTERM)
        await asyncio.sleep(chance.random() * 0.1)
        if worker.returncode is None:
            worker.send_signal(signal.SIGTERM)

        status, log = await stopped(worker)

        assert status == 0, log


async def test_what_does_not_end_within_the_grace_period_is_given_up(
    start: Start, sqs_queue: SqsQueue, engine: AsyncEngine, sessions: Sessions
):
    [event] = await add_events(sessions, subscriber_count=1, count=1)
    async with engine.begin() as lock:
        await lock.execute(text("SELECT 1 FROM events FOR UPDATE"))
        worker = await start(
            WORKER_GRACE_PERIOD="2.5", SQS_CALL_TIMEOUT="1", DATABASE_LOCK_TIMEOUT="25", LOG_FORMAT="json"
        )
        await until_logged(worker, "worker.started")
        await publish(sqs_queue, event)
        async with engine.connect() as observer:
            waiting = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'worker' AND wait_event_type = 'Lock'"
            while not (await observer.execute(text(waiting))).all():
                await asyncio.sleep(0.05)
                await observer.rollback()

        worker.send_signal(signal.SIGTERM)
        status, log = await stopped(worker)

    assert status == 1
    assert "worker.stop_forced" in log


async def test_an_outage_of_the_database_costs_no_message(
    start: Start, sqs_queue: SqsQueue, sqs_config: SqsConfig, engine: AsyncEngine, sessions: Sessions
):
    events = await add_events(sessions, subscriber_count=2, count=50)
    worker = await start()
    await until_logged(worker, "worker.started")
    name = engine.url.database
    await engine.dispose()
    elsewhere = create_async_engine(engine.url.set(database="postgres"))

    async with elsewhere.begin() as connection:
        await connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
        await connection.execute(text(kill), {"name": name})
    await publish(sqs_queue, *events)
    for _ in range(2):
        await until_logged(worker, "dependency.unavailable")
    async with elsewhere.begin() as connection:
        await connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
    await elsewhere.dispose()
    await until_logged(worker, "dependency.recovered")

    async def is_complete() -> bool:
        return await count(sessions, Event.fanned_out_at) == 50

    await until(is_complete)
    assert await take_dead_letters(sqs_config) == []
    worker.send_signal(signal.SIGTERM)
    assert (await stopped(worker))[0] == 0


@pytest.mark.usefixtures("sqs_queue")
async def test_each_half_runs_alone(start: Start, tmp_path: Path):
    fan_out = await start("--only", "fanout")
    # Without a queue anywhere: this half has no use for it.
    deliveries = await start(
        "--only",
        "deliveries",
        SQS_ENDPOINT_URL="http://127.0.0.1:1",
        WORKER_HEALTH_FILE=str(tmp_path / "other"),
        WEBHOOK_ENABLED="true",
        ENCRYPTION_KEYS=KEY,
    )

    assert "fanout" in await until_logged(fan_out, "worker.started")
    assert "deliveries" in await until_logged(deliveries, "worker.started")

    for worker in (fan_out, deliveries):
        worker.send_signal(signal.SIGTERM)
        assert (await stopped(worker))[0] == 0


async def test_a_worker_that_could_deliver_nothing_says_so(start: Start):
    worker = await start("--only", "deliveries")

    status, log = await stopped(worker)

    assert status == 1
    assert "No channel is on offer" in log


async def test_a_delivery_is_sent_as_soon_as_its_event_is_fanned_out(
    start: Start, sqs_queue: SqsQueue, engine: AsyncEngine, sessions: Sessions
):
    received = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()
        received.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    [event] = await add_events(sessions, subscriber_count=1, count=1)
    async with sessions.begin() as session:
        await session.execute(text("UPDATE notification_subscriptions SET channels = '{in_app,webhook}'"))
        [user] = (await session.scalars(select(User).where(User.external_id == "user-0"))).all()
    await add_contact_point(
        sessions,
        Person(user, event),
        address=f"http://127.0.0.1:{port}/hook",
        secrets=[{"secret": make_secret(), "expires_at": None}],
    )
    worker = await start(
        ENCRYPTION_KEYS=KEY,
        WEBHOOK_ENABLED="true",
        OUTBOUND_ALLOWED_NETWORKS="127.0.0.0/8",
        # Whoever waits for the poll waits in vain.
        DELIVERY_POLL_INTERVAL="50",
    )
    await until_logged(worker, "worker.started")

    await publish(sqs_queue, event)

    async with asyncio.timeout(30):
        await received.wait()
    await until_logged(worker, "deliveries.recorded")
    worker.send_signal(signal.SIGTERM)
    assert (await stopped(worker))[0] == 0
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT status FROM deliveries")) == "delivered"
    server.close()


class TestStart:
    async def test_says_what_to_do_when_there_is_no_queue(self, start: Start):
        worker = await start()

        status, log = await stopped(worker)

        assert status == 1
        assert "notify queues create" in log

    @pytest.mark.usefixtures("sqs_queue")
    async def test_says_what_to_do_when_its_login_has_not_the_rights_of_a_worker(
        self, start: Start, api_database_url: str
    ):
        status, log = await stopped(await start(DATABASE_URL=api_database_url))

        assert status == 1
        assert "notify roles grant --worker LOGIN" in log

    @pytest.mark.usefixtures("sqs_queue")
    async def test_says_what_to_do_when_the_schema_is_old(self, start: Start, engine: AsyncEngine):
        async with engine.begin() as connection:
            await connection.execute(text("DELETE FROM alembic_version"))

        status, log = await stopped(await start())

        assert status == 1
        assert "notify migrate" in log

    @pytest.mark.usefixtures("sqs_queue")
    async def test_waits_for_a_database_that_is_away(self, start: Start):
        worker = await start(DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
        await until_logged(worker, "dependency.unavailable")

        worker.send_signal(signal.SIGTERM)

        assert (await stopped(worker))[0] == 0

    async def test_refuses_settings_that_contradict_each_other(self, start: Start):
        status, log = await stopped(await start(WORKER_GRACE_PERIOD="3"))

        assert status == 1
        assert "WORKER_GRACE_PERIOD must be more than" in log

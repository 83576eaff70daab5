"""Two replicas of the api behind a real nginx, rolled one after the other under load: nobody notices."""

import asyncio
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID, uuid4

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.queue.envelope import parse_envelope
from shared.queue.sqs import SqsConfig, create_queues, open_sqs
from tests.factories import make_tenant
from tests.fixtures.api_process import ApiProcess, headers_of
from tests.fixtures.load import load_on
from tests.fixtures.local_system import free_port
from tests.fixtures.nginx import Nginx

DOCKERFILE = Path(__file__).parents[2] / "Dockerfile.api"
ROLLS = 2
CLIENTS = 8

Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture
def directory():
    with TemporaryDirectory(prefix="roll-") as directory:
        yield Path(directory)


@pytest.fixture
async def environment(api_environment: dict[str, str], sqs_config: SqsConfig, sessions: Sessions) -> dict[str, str]:
    """The environment of a replica, with the drain delay of the container image."""
    await create_queues(sqs_config)
    async with sessions.begin() as session:
        await make_tenant(session)
    [delay] = re.findall(r"DRAIN_DELAY=(\S+)", DOCKERFILE.read_text())
    return {**api_environment, "DRAIN_DELAY": delay}


@asynccontextmanager
async def arrivals(config: SqsConfig) -> AsyncIterator[Counter[UUID]]:
    """Yield the events that arrive in the queue while it is emptied, as by the worker."""
    arrived: Counter[UUID] = Counter()

    async def receive() -> None:
        async with open_sqs(config) as queue:
            while True:
                messages = await queue.receive(max_messages=10, wait=timedelta(seconds=1))
                arrived.update(parse_envelope(message.body).id for message in messages)
                await queue.delete(messages)

    receiving = asyncio.create_task(receive())
    try:
        yield arrived
    finally:
        receiving.cancel()


@pytest.mark.timeout(240)
async def test_a_rolling_restart_under_load_fails_no_request(
    environment: dict[str, str], sqs_config: SqsConfig, sessions: Sessions, directory: Path
):
    replicas = [ApiProcess(environment, directory / f"api-{name}.log") for name in "ab"]
    nginx = Nginx(directory / "nginx", free_port(), [replica.port for replica in replicas])

    with replicas[0], replicas[1], nginx:
        async with arrivals(sqs_config) as arrived:
            async with load_on(nginx.url) as load:
                for replica in replicas * ROLLS:
                    await asyncio.sleep(1)
                    assert await asyncio.to_thread(replica.stop) == 0
                    await asyncio.to_thread(replica.start)
            print(load.report())  # noqa: T201 - the figures are a result, shown with -rA
            assert load.failures == []
            async with sessions() as session:
                names = (await session.scalars(sa.text("SELECT name FROM test_scenarios"))).all()
                executions = await session.scalar(sa.text("SELECT count(*) FROM executions"))
                events = set(await session.scalars(sa.text("SELECT id FROM events")))
            assert sorted(names) == sorted(load.created)
            assert executions == load.executed
            while set(arrived) != events:
                await asyncio.sleep(0.1)


@pytest.mark.timeout(120)
async def test_a_killed_replica_neither_loses_nor_doubles_a_post_that_has_a_key(
    environment: dict[str, str], sessions: Sessions, directory: Path
):
    replicas = [ApiProcess(environment, directory / f"api-{name}.log") for name in "ab"]
    nginx = Nginx(directory / "nginx", free_port(), [replica.port for replica in replicas])
    answers: dict[str, int] = {}
    stopped = asyncio.Event()

    async def create_scenarios(user: str) -> None:
        async with httpx.AsyncClient(base_url=nginx.url, headers=headers_of(user), trust_env=False) as client:
            while not stopped.is_set():
                name = f"scenario-{uuid4()}"
                key = {"Idempotency-Key": name}
                while name not in answers:
                    # An answer that was begun cannot be taken back: what nginx does not repeat then, the client must.
                    with suppress(httpx.RemoteProtocolError):
                        response = await client.post("/v1/scenarios", json={"name": name}, headers=key, timeout=30)
                        answers[name] = response.status_code

    with replicas[0], replicas[1], nginx:
        async with asyncio.TaskGroup() as clients:
            for number in range(CLIENTS):
                clients.create_task(create_scenarios(f"user-{number}"))
            for replica in replicas:
                await asyncio.sleep(1)
                replica.send_signal(signal.SIGKILL)
                await asyncio.to_thread(replica.wait)
                await asyncio.to_thread(replica.start)
            stopped.set()
        broken_off = len(re.findall("prematurely closed|reset by peer", nginx.error_log.read_text()))

    print(f"{len(answers)} posts, {broken_off} of them broken off by a replica that was killed")  # noqa: T201 - a result
    assert broken_off
    assert set(answers.values()) == {201}
    async with sessions() as session:
        names = (await session.scalars(sa.text("SELECT name FROM test_scenarios"))).all()
    assert sorted(names) == sorted(answers)

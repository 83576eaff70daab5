"""The local SQS, for real: moto in its own process, spoken to by the client that the queue adapter uses."""

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.session import get_session

from local.sqs import LocalSqs, SqsUnavailable

REPOSITORY = Path(__file__).parents[3]
PATIENCE = 20

PARENT = """
import sys
from local.sqs import LocalSqs

server = LocalSqs()
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def server() -> Iterator[LocalSqs]:
    with LocalSqs() as server:
        yield server


@asynccontextmanager
async def open_client(server: LocalSqs, service: str = "sqs") -> AsyncIterator[Any]:
    async with get_session().create_client(
        service,
        endpoint_url=server.endpoint_url,
        region_name="eu-central-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    ) as client:
        yield client


class TestStart:
    @pytest.mark.asyncio
    async def test_messages_go_through_it(self, server: LocalSqs) -> None:
        async with open_client(server) as client:
            url = (await client.create_queue(QueueName="events"))["QueueUrl"]
            await client.send_message(QueueUrl=url, MessageBody="hello")

            [message] = (await client.receive_message(QueueUrl=url))["Messages"]

        assert message["Body"] == "hello"

    @pytest.mark.asyncio
    async def test_a_long_poll_ends_with_the_message_it_waits_for(self, server: LocalSqs) -> None:
        async with open_client(server) as client:
            url = (await client.create_queue(QueueName="events"))["QueueUrl"]
            started_at = time.monotonic()

            waiting = asyncio.create_task(client.receive_message(QueueUrl=url, WaitTimeSeconds=20))
            await client.send_message(QueueUrl=url, MessageBody="hello")

            assert (await waiting)["Messages"]
            assert time.monotonic() - started_at < 5

    @pytest.mark.asyncio
    async def test_the_channels_backends_are_there_too(self, server: LocalSqs) -> None:
        async with open_client(server, "sns") as sns:
            assert (await sns.publish(PhoneNumber="+12025550100", Message="hello"))["MessageId"]
        async with open_client(server, "sesv2") as ses:
            assert (await ses.list_email_identities())["EmailIdentities"] == []

    def test_it_logs_no_requests(self, capfd: pytest.CaptureFixture[str]) -> None:
        async def list_queues(server: LocalSqs) -> None:
            async with open_client(server) as client:
                await client.list_queues()

        with LocalSqs() as server:
            asyncio.run(list_queues(server))

        assert capfd.readouterr() == ("", "")

    def test_a_taken_port_is_an_error_that_names_it(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]

            with pytest.raises(SqsUnavailable, match=f"is port {port} in use"):
                LocalSqs(port=port).start()

    @pytest.mark.asyncio
    async def test_after_its_death_it_starts_again_empty_on_the_same_port(self, server: LocalSqs) -> None:
        endpoint = server.endpoint_url
        async with open_client(server) as client:
            await client.create_queue(QueueName="events")
        os.kill(server.pid or 0, signal.SIGKILL)

        server.start()

        assert server.endpoint_url == endpoint
        async with open_client(server) as client:
            assert "QueueUrls" not in await client.list_queues()


class TestStop:
    def test_stopping_twice_or_before_the_start_does_nothing(self) -> None:
        server = LocalSqs()
        server.stop()
        server.start()
        server.stop()
        server.stop()

        assert server.pid is None

    def test_a_server_that_does_not_listen_is_killed(self, server: LocalSqs) -> None:
        os.kill(server.pid or 0, signal.SIGSTOP)

        server.stop()

        assert server.pid is None

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux has pidfd_open")
    def test_nothing_runs_on_after_the_parent_is_killed(self) -> None:
        with subprocess.Popen(
            [sys.executable, "-c", PARENT], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as parent:
            assert parent.stdout
            child = os.pidfd_open(int(parent.stdout.readline()))

            parent.kill()

        ended, _, _ = select.select([child], [], [], PATIENCE)
        os.close(child)
        assert ended

"""The api as a process: how it starts, whom it believes, and how it stops."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from local.sqs import LocalSqs
from shared.queue.sqs import SqsConfig, create_queues
from tests.factories import make_tenant
from tests.fixtures.api_process import ApiProcess, headers_of
from tests.fixtures.local_system import wait_for

Sessions = async_sessionmaker[AsyncSession]

BODY = json.dumps({"name": "Sent slowly"}).encode()


@pytest.fixture
async def environment(api_environment: dict[str, str], sqs_config: SqsConfig, sessions: Sessions) -> dict[str, str]:
    """What an api needs to start, with a tenant and the queues; nothing delays its end."""
    await create_queues(sqs_config)
    async with sessions.begin() as session:
        await make_tenant(session)
    return {**api_environment, "DRAIN_DELAY": "0", "SHUTDOWN_TIMEOUT": "5"}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "api.log"


@contextmanager
def connection_to(api: ApiProcess, sent: bytes) -> Iterator[socket.socket]:
    """Yield a connection on which the api has read this much."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=30) as connection:
        connection.sendall(sent)
        # A whole request on another connection, so that this one has been accepted and read by now.
        api.probe("/livez")
        yield connection


def request_head() -> bytes:
    lines = [
        "POST /v1/scenarios HTTP/1.1",
        "Host: api",
        "Content-Type: application/json",
        f"Content-Length: {len(BODY)}",
    ]
    lines += [f"{name}: {value}" for name, value in headers_of("alice").items()]
    return "\r\n".join([*lines, "", ""]).encode()


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


async def list_unpublished(sessions: Sessions) -> list[sa.Row[Any]]:
    statement = sa.text("SELECT id, claimed_until FROM events WHERE published_at IS NULL")
    async with sessions() as session:
        return list(await session.execute(statement))


class TestStart:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("DATABASE_URL", None),
            ("DATABASE_URL", "mysql://user:hunter2@127.0.0.1/name"),
            ("DATABASE_URL", "hunter2"),
            ("JWT_SECRET", "hunter2"),
            ("ENCRYPTION_KEYS", None),
            ("ENCRYPTION_KEYS", "hunter2"),
            ("FORWARDED_ALLOW_IPS", "*"),
            ("PORT", "hunter2"),
        ],
    )
    def test_a_wrong_setting_is_named_without_its_value(
        self, api_environment: dict[str, str], name: str, value: str | None
    ):
        changed = {**api_environment, name: value}

        result = run_api({name: value for name, value in changed.items() if value is not None})

        assert result.returncode == 1
        assert [line for line in result.stderr.splitlines() if line.startswith(f"{name}: ")]
        assert "Traceback" not in result.stderr
        assert "hunter2" not in result.stdout + result.stderr

    def test_a_taken_port_is_said_so(self, api_environment: dict[str, str]):
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]

            result = run_api({**api_environment, "PORT": str(port)})

        assert result.returncode == 1
        assert result.stderr == f"Cannot listen on port {port} of 127.0.0.1: Address already in use.\n"
        assert result.stdout == ""


def run_api(environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "api"], env=environment, capture_output=True, text=True, check=False, timeout=45
    )


class TestForwardedHeaders:
    def test_they_are_believed_from_the_configured_network_only(self, environment: dict[str, str], log: Path):
        def client_seen_by_the_api(api: ApiProcess, address: str, forwarded_for: str) -> str:
            transport = httpx.HTTPTransport(local_address=address)
            with api.client(transport=transport) as client:
                response = client.get("/v1/scenarios", headers={"X-Forwarded-For": forwarded_for}).raise_for_status()
            # The line is written after the answer has been sent.
            [entry] = wait_for(
                lambda: [
                    entry for entry in api.log_entries() if entry["request_id"] == response.headers["X-Request-Id"]
                ]
            )
            seen: str = entry["client"]
            return seen

        with ApiProcess({**environment, "FORWARDED_ALLOW_IPS": "127.0.0.8/30"}, log) as api:
            # 127.0.0.9 is in the network, 127.0.0.1 and 127.0.0.12 are not.
            assert client_seen_by_the_api(api, "127.0.0.9", "203.0.113.7") == "203.0.113.7"
            assert client_seen_by_the_api(api, "127.0.0.1", "203.0.113.7") == "127.0.0.1"
            assert client_seen_by_the_api(api, "127.0.0.12", "203.0.113.7") == "127.0.0.12"
            # What a client wrote itself stands before what the balancer added.
            assert client_seen_by_the_api(api, "127.0.0.9", "198.51.100.1, 203.0.113.7") == "203.0.113.7"
            # Two balancers, one behind the other.
            assert client_seen_by_the_api(api, "127.0.0.9", "203.0.113.7, 127.0.0.10") == "203.0.113.7"


class TestDrain:
    def test_it_is_unready_first_but_alive_and_serving(self, environment: dict[str, str], log: Path):
        with ApiProcess({**environment, "DRAIN_DELAY": "3"}, log) as api, api.client() as client:
            assert "connection" not in client.get("/v1/scenarios").headers

            api.send_signal()
            wait_for(lambda: api.probe("/readyz") == 503)
            while api.probe("/readyz") is not None:
                response = client.post("/v1/scenarios", json={"name": "During the drain"})
                assert (response.status_code, response.headers["connection"]) == (201, "close")
                assert api.probe("/livez") in {200, None}
                time.sleep(0.1)

            assert api.wait() == 0

    def test_sigterm_again_changes_nothing(self, environment: dict[str, str], log: Path):
        with ApiProcess({**environment, "DRAIN_DELAY": "2"}, log) as api:
            began = time.monotonic()
            api.send_signal()
            wait_for(lambda: api.probe("/readyz") == 503)

            api.send_signal()
            api.send_signal()

            assert api.probe("/livez") == 200
            assert api.wait() == 0
            assert time.monotonic() - began > 2

    def test_ctrl_c_again_does_not_wait(self, environment: dict[str, str], log: Path):
        with ApiProcess({**environment, "DRAIN_DELAY": "60"}, log) as api:
            api.send_signal(signal.SIGINT)
            wait_for(lambda: api.probe("/readyz") == 503)

            api.send_signal(signal.SIGINT)

            assert api.wait() == 0


class TestStop:
    @pytest.mark.parametrize("sent", [b"", b"POST /v1/sce", None], ids=["connected", "in its head", "in its body"])
    def test_a_request_under_way_is_finished(self, environment: dict[str, str], log: Path, sent: bytes | None):
        request = request_head() + BODY
        sent = request[:-5] if sent is None else sent

        with ApiProcess(environment, log) as api, connection_to(api, sent) as connection:
            api.send_signal()
            wait_for(lambda: api.log_entries("server.closing"))
            connection.sendall(request[len(sent) :])
            response = read_all(connection)

            assert response.startswith(b"HTTP/1.1 201 ")
            assert b"\r\nconnection: close\r\n" in response
            assert api.wait() == 0

    @pytest.mark.parametrize(
        "sent",
        [
            b"",
            b"GET /livez HTTP/1.1\r\nHost:",
            request_head() + BODY[:5],
            b"GET /openapi.json HTTP/1.1\r\nHost: api\r\n\r\n" * 100,
        ],
        ids=["silent", "never ends its head", "never ends its body", "never reads"],
    )
    def test_a_slow_client_cannot_hold_it(self, environment: dict[str, str], log: Path, sent: bytes):
        with ApiProcess({**environment, "SHUTDOWN_TIMEOUT": "1"}, log) as api, connection_to(api, sent):
            began = time.monotonic()

            assert api.stop() == 0
            # A second for the client, half a second for first words; the rest is for a slow machine.
            assert time.monotonic() - began < 6


class TestRelay:
    async def test_what_is_committed_is_published_before_the_end(
        self, environment: dict[str, str], sqs_config: SqsConfig, sessions: Sessions, log: Path
    ):
        with LocalSqs() as sqs:
            own = replace(sqs_config, endpoint_url=sqs.endpoint_url)
            await create_queues(own)
            with ApiProcess({**environment, "SQS_ENDPOINT_URL": sqs.endpoint_url}, log) as api, api.client() as client:
                sqs.stop()
                client.post("/v1/scenarios", json={"name": "Without the queue"}).raise_for_status()
                # By now it would not try again for long enough to restart the queue.
                wait_for(lambda: [entry for entry in api.log_entries("relay.failed") if entry["retry_in"] >= 8])
                sqs.start()
                await create_queues(own)
                assert len(await list_unpublished(sessions)) == 1

                assert api.stop() == 0

        assert await list_unpublished(sessions) == []

    async def test_a_queue_that_hangs_does_not_hold_it(
        self, environment: dict[str, str], sessions: Sessions, log: Path
    ):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
            environment |= {"SQS_ENDPOINT_URL": endpoint, "SQS_CALL_TIMEOUT": "60", "RELAY_DRAIN_TIMEOUT": "1"}
            with ApiProcess(environment, log, ready_path="/livez") as api, api.client() as client:
                client.post("/v1/scenarios", json={"name": "Waits"}).raise_for_status()
                began = time.monotonic()

                assert api.stop() == 0
                assert time.monotonic() - began < 6

        # It is left to the others at once, not only after the lease.
        [event] = await list_unpublished(sessions)
        assert event.claimed_until is None

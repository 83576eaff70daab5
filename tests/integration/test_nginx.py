"""The balancer's rules: what it sends to a second replica, and what it must not."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from typing_extensions import override

from tests.fixtures.local_system import free_port
from tests.fixtures.nginx import Nginx

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Replica(socketserver.ThreadingTCPServer):
    """Takes requests, and answers or breaks off."""

    daemon_threads = True

    def __init__(self, answer: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.taken: list[bytes] = []

    @property
    def port(self) -> int:
        port: int = self.server_address[1]
        return port


class Handler(socketserver.BaseRequestHandler):
    @override
    def handle(self) -> None:
        assert isinstance(self.server, Replica)
        if request := self.request.recv(65536):
            self.server.taken.append(request)
            self.request.sendall(self.server.answer)


@contextmanager
def running_replica(answer: bytes) -> Iterator[Replica]:
    with Replica(answer) as replica:
        threading.Thread(target=replica.serve_forever, kwargs={"poll_interval": 0.05}).start()
        try:
            yield replica
        finally:
            replica.shutdown()


@pytest.fixture
def directory():
    with TemporaryDirectory(prefix="nginx-") as directory:
        yield Path(directory) / "nginx"


def test_the_committed_configuration_is_valid(directory: Path):
    assert "test is successful" in Nginx(directory, free_port(), [free_port()]).check()


@pytest.mark.parametrize(
    ("method", "key", "tries"),
    [("POST", None, 1), ("POST", "", 1), ("POST", "a-key", 2), ("GET", None, 2), ("PUT", None, 2), ("DELETE", None, 2)],
)
def test_only_what_is_repeatable_is_repeated(directory: Path, method: str, key: str | None, tries: int):
    headers = {} if key is None else {"Idempotency-Key": key}
    with (
        running_replica(b"") as one,
        running_replica(b"") as other,
        Nginx(directory, free_port(), [one.port, other.port]) as nginx,
    ):
        response = httpx.request(method, f"{nginx.url}/v1/scenarios?label=a", headers=headers, trust_env=False)

        taken = one.taken + other.taken
    assert response.status_code == 502
    assert [request.split(b"\r\n")[0] for request in taken] == [
        f"{method} /v1/scenarios?label=a HTTP/1.1".encode()
    ] * tries


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "a-key"}], ids=["without a key", "with a key"])
def test_a_replica_that_refuses_is_passed_over(directory: Path, key: dict[str, str]):
    refusing = free_port()
    with running_replica(ANSWER) as replica, Nginx(directory, free_port(), [refusing, replica.port]) as nginx:
        for _ in range(4):
            response = httpx.post(f"{nginx.url}/v1/scenarios", headers=key, json={"name": "Sent"}, trust_env=False)

            assert response.status_code == 200

    assert len(replica.taken) == 4
    assert all(b'{"name":"Sent"}' in request for request in replica.taken)


def test_the_clients_address_is_added_to_what_it_says_itself(directory: Path):
    transport = httpx.HTTPTransport(local_address="127.0.0.7")
    with (
        running_replica(ANSWER) as replica,
        Nginx(directory, free_port(), [replica.port]) as nginx,
        httpx.Client(transport=transport) as client,
    ):
        client.get(nginx.url, headers={"X-Forwarded-For": "203.0.113.7"}).raise_for_status()

    assert b"\r\nX-Forwarded-For: 203.0.113.7, 127.0.0.7\r\n" in replica.taken[0]

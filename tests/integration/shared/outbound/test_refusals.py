"""No connection is made to an internal address, however it is spelled. Sockets that would be reached count."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from shared.channel import DeliveryFailed, OutcomeUnknown, PermanentFailure, TemporaryFailure
from shared.outbound import OutboundHttp, OutboundSettings, open_outbound
from shared.outbound.connections import GuardedResolver
from shared.outbound.networks import parse_networks
from shared.settings import SettingsInvalid, load_settings

# Trusts nobody. To read whom the system trusts takes longer than all of a test.
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
PUBLIC = "93.184.215.14"
OTHER_PUBLIC = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"

LOOPBACK = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.0.0.1..",
    "127.255.255.254",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7F.0x0.0x0.0x1",
    "0x7f.1",
    "0177.0.0.1",
    "0177.0.0.01",
    "017700000001",
    "00000177.1",
    "0",
    "0.0.0.0",  # noqa: S104 - it is one of the spellings
    "0x0",
    "localhost",
    "LocalHost",
    "127。0。0。1",
    "①②⑦.⓪.⓪.①",
    "example.com@127.0.0.1",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000:0000:0000:0000:0000:0000:0000:0001]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2002:7f00:1::7f00:1]",
    "[2001:0:7f00:1:0:0:80ff:fffe]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "[::1%25lo]",
]
# Whether these can be looked up differs between systems.
DOUBTFUL = ["localhost.", "localhost..", "ip6-localhost", "%31%32%37.0.0.1", "127.0.0.1%00.example.com", ".", "a..b"]
INTERNAL = [
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::169.254.169.254]",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "[100::1]",
    "[2001::1]",
    "[2001:2::1]",
    "[2001:db8::1]",
    "[2002:a00:1::]",
    "[3fff::1]",
    "[5f00::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fec0::1]",
    "[ff02::1]",
    "[4000::1]",
]


@dataclass
class Trap:
    """A port on every address of this machine, and all that anybody tried to connect to."""

    port: int = 0
    accept_count: int = 0
    attempts: list[str] = field(default_factory=list)


@pytest.fixture
async def trap(monkeypatch) -> AsyncIterator[Trap]:
    trap = Trap()
    connect = asyncio.SelectorEventLoop.sock_connect

    async def watch(self: asyncio.SelectorEventLoop, sock: socket.socket, address: Any) -> None:
        trap.attempts.append(address[0])
        if not address[0].startswith("127."):
            raise ConnectionRefusedError  # A test must not reach further than this machine.
        await connect(self, sock, address)

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        trap.accept_count += 1
        writer.close()

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", watch)
    listener = await asyncio.start_server(accept, "0.0.0.0", 0)  # noqa: S104 - internal addresses are the point here
    trap.port = listener.sockets[0].getsockname()[1]
    second = await asyncio.start_server(accept, "::1", trap.port) if socket.has_dualstack_ipv6() else None
    try:
        yield trap
    finally:
        for server in filter(None, (listener, second)):
            server.close()
            await server.wait_closed()


@pytest.fixture
async def http() -> AsyncIterator[OutboundHttp]:
    async with open_outbound(OutboundSettings(), tls=TLS) as http:
        yield http


def resolve_to(*addresses: str) -> Callable[..., list[tuple[Any, ...]]]:
    """Return what looks up every name as these addresses."""

    def look_up(_: str, port: int, **__: Any) -> list[tuple[Any, ...]]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
            for address in addresses
        ]

    return look_up


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", LOOPBACK + INTERNAL)
async def test_an_internal_address_is_not_connected_to_however_it_is_spelled(http, trap, scheme, host):
    with pytest.raises(PermanentFailure):
        await http.post(f"{scheme}://{host}:{trap.port}/", body=b"{}", headers={})

    assert (trap.accept_count, trap.attempts) == (0, [])


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", DOUBTFUL)
async def test_a_doubtful_name_is_not_connected_to_either(http, trap, scheme, host):
    with pytest.raises(DeliveryFailed):
        await http.post(f"{scheme}://{host}:{trap.port}/", body=b"{}", headers={})

    assert (trap.accept_count, trap.attempts) == (0, [])


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00:ec2::254", "64:ff9b::a00:1"]
)
async def test_a_name_that_points_inside_is_not_connected_to(trap, address):
    async with open_outbound(OutboundSettings(), tls=TLS, look_up=resolve_to(address)) as http:
        with pytest.raises(PermanentFailure, match="nothing is sent to this address"):
            await http.post(f"https://hooks.example.com:{trap.port}/", body=b"{}", headers={})

    assert (trap.accept_count, trap.attempts) == (0, [])


async def test_of_several_addresses_only_the_public_ones_are_connected_to(trap):
    look_up = resolve_to("127.0.0.1", PUBLIC, "::1", "10.0.0.1", OTHER_PUBLIC, "fd00:ec2::254")
    async with open_outbound(OutboundSettings(), tls=TLS, look_up=look_up) as http:
        with pytest.raises(TemporaryFailure, match="no connection came about"):
            await http.post(f"https://hooks.example.com:{trap.port}/", body=b"{}", headers={})

    assert trap.accept_count == 0
    assert set(trap.attempts) == {PUBLIC, OTHER_PUBLIC}


async def test_a_name_that_changes_its_meaning_is_looked_up_once_and_connected_to_as_checked(trap):
    answers = [PUBLIC, "127.0.0.1", "127.0.0.1", "127.0.0.1"]
    asked = 0

    def look_up(*args: Any, **options: Any) -> list[tuple[Any, ...]]:
        nonlocal asked
        asked += 1
        return resolve_to(answers[asked - 1])(*args, **options)

    async with open_outbound(OutboundSettings(), tls=TLS, look_up=look_up) as http:
        with pytest.raises(TemporaryFailure):
            await http.post(f"https://hooks.example.com:{trap.port}/", body=b"{}", headers={})
        assert asked == 1
    async with open_outbound(OutboundSettings(), tls=TLS, look_up=look_up) as http:
        with pytest.raises(PermanentFailure):
            await http.post(f"https://hooks.example.com:{trap.port}/", body=b"{}", headers={})

    assert trap.accept_count == 0
    assert set(trap.attempts) == {PUBLIC}


async def test_a_resolver_that_checks_nothing_still_meets_the_wall(http, trap, monkeypatch):
    async def say_loopback(*_: Any, **__: Any) -> list[dict[str, Any]]:
        return [
            {"hostname": "x", "host": "127.0.0.1", "port": trap.port, "family": socket.AF_INET, "proto": 0, "flags": 0}
        ]

    monkeypatch.setattr(GuardedResolver, "resolve", say_loopback)

    with pytest.raises(PermanentFailure):
        await http.post(f"https://hooks.example.com:{trap.port}/", body=b"{}", headers={})

    assert (trap.accept_count, trap.attempts) == (0, [])


class TestPermittedNetworks:
    async def test_an_address_in_one_is_reached_by_plain_http(self, trap):
        async with open_outbound(OutboundSettings(allowed_networks=parse_networks("127.0.0.1/32")), tls=TLS) as http:
            with pytest.raises(OutcomeUnknown):
                await http.post(f"http://127.0.0.1:{trap.port}/", body=b"{}", headers={})

        assert trap.accept_count == 1

    @pytest.mark.parametrize("host", ["127.0.0.2", "10.0.0.1", "[::1]", "[::ffff:127.0.0.1]"])
    async def test_others_are_still_refused(self, trap, host):
        async with open_outbound(OutboundSettings(allowed_networks=parse_networks("127.0.0.1/32")), tls=TLS) as http:
            with pytest.raises(PermanentFailure):
                await http.post(f"http://{host}:{trap.port}/", body=b"{}", headers={})

        assert (trap.accept_count, trap.attempts) == (0, [])

    async def test_plain_http_is_spoken_nowhere_else(self, trap):
        async with open_outbound(OutboundSettings(), tls=TLS, look_up=resolve_to(PUBLIC)) as http:
            with pytest.raises(PermanentFailure, match="not https"):
                await http.post(f"http://hooks.example.com:{trap.port}/", body=b"{}", headers={})

        assert trap.attempts == []

    @pytest.mark.parametrize("networks", ["10.0.0.1/8", "everything", "10.0.0.0/33"])
    def test_what_is_no_network_is_refused_at_the_start(self, networks, monkeypatch):
        monkeypatch.setenv("OUTBOUND_ALLOWED_NETWORKS", networks)

        with pytest.raises(SettingsInvalid, match="OUTBOUND_ALLOWED_NETWORKS"):
            load_settings(OutboundSettings)

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest
import trustme

from shared.channel import OutcomeUnknown, TemporaryFailure
from shared.outbound import OutboundHttp, OutboundResponse, OutboundSettings, open_outbound
from shared.outbound.networks import parse_networks
from tests.fakes.misbehaving_server import reset, run_misbehaving_server

SETTINGS = OutboundSettings(allowed_networks=parse_networks("127.0.0.0/8"))


async def post(http: OutboundHttp, url: str) -> OutboundResponse:
    return await http.post(url, body=b"{}", headers={})


def serve(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def https(authority) -> AsyncIterator[OutboundHttp]:
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with open_outbound(SETTINGS, tls=trusting) as http:
        yield http


async def test_a_trusted_server_is_reached(https, authority):
    async with run_misbehaving_server(tls=serve(authority.issue_cert("127.0.0.1"))) as server:
        response = await post(https, server.url("ok"))

    assert response.status == 200


@pytest.mark.parametrize(
    ("issue", "reason"),
    [
        (lambda authority: authority.issue_cert("other.example"), "mismatch"),
        (lambda _: trustme.CA().issue_cert("127.0.0.1"), "unable to get local issuer"),
        (
            lambda authority: authority.issue_cert("127.0.0.1", not_after=datetime.now(UTC) - timedelta(days=1)),
            "expired",
        ),
    ],
    ids=["of another host", "by an unknown authority", "expired"],
)
async def test_a_wrong_certificate_ends_it_before_anything_is_written(
    https, authority, issue: Callable[[trustme.CA], trustme.LeafCert], reason
):
    async with run_misbehaving_server(tls=serve(issue(authority))) as server:
        with pytest.raises(TemporaryFailure, match=f"the certificate is not valid: .*{reason}"):
            await post(https, server.url("ok"))

    assert server.requests == []


async def test_unless_told_otherwise_it_trusts_whom_the_system_trusts(authority):
    async with (
        run_misbehaving_server(tls=serve(authority.issue_cert("127.0.0.1"))) as server,
        open_outbound(SETTINGS) as http,
    ):
        with pytest.raises(TemporaryFailure, match="the certificate is not valid"):
            await post(http, server.url("ok"))

    assert server.requests == []


async def test_an_authority_of_the_operator_is_named_by_the_environment(authority, tmp_path, monkeypatch):
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))

    async with (
        run_misbehaving_server(tls=serve(authority.issue_cert("127.0.0.1"))) as server,
        open_outbound(SETTINGS) as http,
    ):
        assert (await post(http, server.url("ok"))).status == 200


async def test_a_server_without_tls_is_not_spoken_to(https):
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with listener:
        with pytest.raises(TemporaryFailure, match="no TLS connection"):
            await post(https, f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}/")


async def test_a_handshake_that_hangs_ends_with_the_time_to_connect():
    settings = SETTINGS.model_copy(update={"connect_timeout": timedelta(seconds=0.1)})
    held: list[asyncio.StreamWriter] = []

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    listener = await asyncio.start_server(hold, "127.0.0.1", 0)
    async with listener, open_outbound(settings) as http:
        with pytest.raises(TemporaryFailure, match="no connection came about in time"):
            await post(http, f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}/")
        for writer in held:
            writer.close()


async def test_a_reset_in_the_handshake_is_no_connection(https):
    async def reset_at_once(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reset(writer)

    listener = await asyncio.start_server(reset_at_once, "127.0.0.1", 0)
    async with listener:
        with pytest.raises(TemporaryFailure, match="no connection came about"):
            await post(https, f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}/")


async def test_plain_http_to_a_server_with_tls_gets_no_answer_that_can_be_read(https, authority):
    async with run_misbehaving_server(tls=serve(authority.issue_cert("127.0.0.1"))) as server:
        with pytest.raises(OutcomeUnknown):
            await post(https, server.url("ok").replace("https:", "http:"))

import asyncio
import socket
import ssl
import threading
import tracemalloc
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.channel import DeliveryFailed, OutcomeUnknown, PermanentFailure, TemporaryFailure
from shared.outbound import OutboundHttp, OutboundResponse, OutboundSettings, open_outbound
from shared.outbound.client import MAX_BODY_BYTES
from shared.outbound.networks import parse_networks
from tests.fakes.misbehaving_server import BOMB, MisbehavingServer, reset, run_misbehaving_server

BODY = b'{"hello": "world"}'
MEBIBYTE = 1024 * 1024
# Trusts nobody. To read whom the system trusts takes longer than most of these tests.
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
SETTINGS = OutboundSettings(allowed_networks=parse_networks("127.0.0.0/8"))
# For those who wait in vain.
HASTY = SETTINGS.model_copy(update={"timeout": timedelta(seconds=1)})


@pytest.fixture
async def server() -> AsyncIterator[MisbehavingServer]:
    async with run_misbehaving_server() as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[OutboundHttp]:
    async with open_outbound(SETTINGS, tls=TLS) as http:
        yield http


@pytest.fixture
async def hasty() -> AsyncIterator[OutboundHttp]:
    async with open_outbound(HASTY, tls=TLS) as http:
        yield http


async def post(http: OutboundHttp, url: str) -> OutboundResponse:
    return await http.post(url, body=BODY, headers={"X-Test": "yes"})


class TestAnswers:
    async def test_a_server_gets_what_was_sent_and_nothing_about_us(self, http, server):
        response = await post(http, server.url("ok"))

        [(head, body)] = server.requests
        assert (response.status, response.body, body) == (200, b"ok", BODY)
        assert sorted(line.partition(":")[0] for line in head.strip().split("\r\n")[1:]) == [
            "Accept",
            "Accept-Encoding",
            "Content-Length",
            "Content-Type",
            "Host",
            "User-Agent",
            "X-Test",
        ]
        assert "Accept-Encoding: identity" in head

    @pytest.mark.parametrize(
        ("behaviour", "status"),
        [
            ("no-content", 204),
            ("redirect", 307),
            ("400", 400),
            ("404", 404),
            ("410", 410),
            ("429-garbage", 429),
            ("500", 500),
            ("http-1.0", 200),
            ("continue-first", 200),
            ("switching-protocols", 101),
        ],
    )
    async def test_every_status_is_an_answer(self, http, server, behaviour, status):
        response = await post(http, server.url(behaviour))

        assert response.status == status

    @pytest.mark.parametrize("behaviour", ["short-body", "drip-body", "no-gzip"])
    async def test_a_body_that_goes_wrong_changes_nothing_about_the_status(self, hasty, server, behaviour):
        response = await post(hasty, server.url(behaviour))

        assert response.status == 200
        assert len(response.body) < 100

    async def test_a_redirect_is_not_followed(self, http, server):
        async with run_misbehaving_server() as internal:
            server.internal = internal.url("ok")

            response = await post(http, server.url("redirect"))

        assert response.status == 307
        assert internal.accept_count == 0

    async def test_headers_are_found_in_any_case(self, http, server):
        response = await post(http, server.url("429-seconds"))

        assert response.headers["retry-after"] == "120"


class TestBounds:
    @pytest.mark.parametrize("behaviour", ["bomb", "endless-body"])
    async def test_of_a_body_the_beginning_is_read_and_nothing_is_unpacked(self, http, server, behaviour):
        response = await post(http, server.url(behaviour))

        assert len(response.body) == MAX_BODY_BYTES
        if behaviour == "bomb":
            assert response.body == BOMB[:MAX_BODY_BYTES]

    @pytest.mark.parametrize(
        "behaviour", ["bomb", "endless-body", "endless-head", "endless-continue", "huge-header", "many-headers"]
    )
    async def test_no_answer_takes_much_memory(self, hasty, server, behaviour):
        await post(hasty, server.url("ok"))
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()

            await asyncio.gather(post(hasty, server.url(behaviour)), return_exceptions=True)

            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak - before < 8 * MEBIBYTE

    async def test_connections_to_one_host_are_limited(self, server):
        settings = SETTINGS.model_copy(update={"max_connections_per_host": 2})
        async with open_outbound(settings, tls=TLS) as http:
            await asyncio.gather(*(post(http, server.url("ok")) for _ in range(10)))

        assert server.accept_count == 2


class TestConnections:
    async def test_a_connection_is_used_again(self, http, server):
        for _ in range(3):
            await post(http, server.url("ok"))

        assert server.accept_count == 1

    async def test_a_connection_that_the_server_closed_is_replaced(self, http, server):
        for number in range(3):
            assert (await post(http, server.url("close-after-answer"))).status == 200
            while server.close_count <= number:
                await asyncio.sleep(0)

        assert server.accept_count == 3

    @pytest.mark.parametrize("behaviour", ["bomb", "two-answers", "short-body", "drip-body"])
    async def test_a_connection_with_something_left_in_it_is_not_used_again(self, hasty, server, behaviour):
        await post(hasty, server.url(behaviour))

        assert (await post(hasty, server.url("ok"))).status == 200
        assert server.accept_count == 2

    async def test_cookies_are_not_kept(self, http, server):
        await post(http, server.url("cookie"))
        await post(http, server.url("ok"))

        assert "cookie:" not in server.requests[-1][0].lower()

    async def test_at_the_end_no_connection_and_no_thread_is_left(self, server):
        async with open_outbound(SETTINGS, tls=TLS) as http:
            await post(http, server.url("ok", host="localhost"))

        while server.close_count == 0 or any(thread.name.startswith("look-up") for thread in threading.enumerate()):
            await asyncio.sleep(0.01)
        with pytest.raises(RuntimeError):
            await post(http, server.url("ok"))

    async def test_a_proxy_of_the_environment_is_not_used(self, server, monkeypatch):
        async with run_misbehaving_server() as proxy:
            for name in ("http_proxy", "https_proxy", "all_proxy"):
                monkeypatch.setenv(name, proxy.url("ok"))
            async with open_outbound(SETTINGS, tls=TLS) as http:
                await post(http, server.url("ok"))

        assert (proxy.accept_count, server.accept_count) == (0, 1)


class TestFailures:
    @pytest.mark.parametrize(
        "behaviour",
        [
            "hang",
            "reset",
            "close",
            "drip-head",
            "endless-head",
            "endless-continue",
            "garbage",
            "bad-status",
            "huge-header",
            "many-headers",
            "two-lengths",
            "negative-length",
            "bad-chunks",
        ],
    )
    async def test_no_answer_to_what_was_written_leaves_the_outcome_unknown(self, hasty, server, behaviour):
        with pytest.raises(OutcomeUnknown) as caught:
            await post(hasty, server.url(behaviour))

        assert_says_nothing_of_the_address(caught.value, server)

    @pytest.mark.filterwarnings("ignore:Sending a large body")
    async def test_what_was_not_written_was_not_taken(self, hasty, server):
        with pytest.raises(TemporaryFailure, match="could not be sent") as caught:
            await hasty.post(server.url("hang-unread"), body=bytes(16 * MEBIBYTE), headers={})

        assert_says_nothing_of_the_address(caught.value, server)

    @pytest.mark.filterwarnings("ignore:Sending a large body")
    async def test_an_answer_may_come_before_the_body_was_read(self, http, server):
        # The server closes with unread bytes, and so resets: the answer may or may not get through.
        try:
            response = await http.post(server.url("answer-early"), body=bytes(16 * MEBIBYTE), headers={})
        except TemporaryFailure:
            return
        assert response.status == 413

    async def test_a_reset_at_accept_is_no_answer(self, http):
        async def reset_at_once(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            reset(writer)

        listener = await asyncio.start_server(reset_at_once, "127.0.0.1", 0)
        async with listener:
            # Whether the request was on its way already is a matter of microseconds.
            with pytest.raises((TemporaryFailure, OutcomeUnknown)):
                await post(http, f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/")

    async def test_a_closed_port_was_not_reached(self, http):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))

            with pytest.raises(TemporaryFailure, match="no connection came about: Connection refused"):
                await post(http, f"http://127.0.0.1:{free.getsockname()[1]}/")

    @pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_AGAIN, "later"), UnicodeError("label too long")])
    async def test_a_host_that_cannot_be_looked_up_was_not_reached(self, error):
        def fail(*_: object, **__: object) -> list[tuple[object, ...]]:
            raise error

        async with open_outbound(SETTINGS, tls=TLS, look_up=fail) as http:
            with pytest.raises(TemporaryFailure, match="the host could not be looked up"):
                await post(http, "https://hooks.example.com/")

    @pytest.mark.parametrize(
        "url", ["ftp://example.com/", "file:///etc/passwd", "//example.com/", "https://", "https://a:b:c/", ""]
    )
    async def test_what_is_no_url_is_refused_for_good(self, http, url):
        with pytest.raises(PermanentFailure, match="no URL that can be called"):
            await post(http, url)

    # By plain http, which without a permitted network is spoken to nobody.
    @given(
        st.sampled_from(["http", "HTTP"]),
        st.lists(st.characters(codec="ascii") | st.sampled_from(["[", "::", "]", "%25", "..", "xn--", "é"])).map(
            "".join
        ),
    )
    @example("http", "é@[::1]")
    @example("http", "]@")
    async def test_no_text_makes_it_fail_in_another_way(self, scheme, text):
        async with open_outbound(OutboundSettings(), tls=TLS, look_up=find_nothing) as http:
            with pytest.raises((PermanentFailure, TemporaryFailure)):
                await post(http, f"{scheme}://{text}")

    async def test_who_gives_up_waiting_leaves_no_connection_behind(self, http, server):
        sending = asyncio.create_task(post(http, server.url("hang")))
        while not server.requests:
            await asyncio.sleep(0)

        sending.cancel()

        with pytest.raises(asyncio.CancelledError):
            await sending
        assert (await post(http, server.url("ok"))).status == 200
        assert server.accept_count == 2


def find_nothing(*_: object, **__: object) -> list[tuple[object, ...]]:
    raise socket.gaierror(socket.EAI_NONAME, "unknown")


def assert_says_nothing_of_the_address(failure: DeliveryFailed, server: MisbehavingServer) -> None:
    for text in (str(failure), repr(failure.__cause__)):
        assert "127.0.0.1" not in text
        assert str(server.port) not in text
        assert "\n" not in text

"""The issuer's keys: which are taken, when they are fetched, and what happens when they cannot be."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from api.jwks import KeyServerFailed, RemoteKeys, parse_key_set
from api.problems import ServiceUnavailable
from api.signing_keys import KeyNotFound
from tests.fakes.key_server import KeyServer, public, run_key_server

LIFETIME = timedelta(minutes=10)
# Long for a request to this machine, even a busy one; every test of a silent server waits for its end.
TIMEOUT = timedelta(seconds=1.5)

RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
EC = ECKey.generate_key("P-256", {"kid": "ec"})
ED = OKPKey.generate_key("Ed25519", {"kid": "ed"})
NEW = ECKey.generate_key("P-256", {"kid": "new"})


class FakeTime:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, duration: timedelta) -> None:
        self.now += duration.total_seconds()


@pytest.fixture
def clock() -> FakeTime:
    return FakeTime()


@pytest.fixture
async def server() -> AsyncIterator[KeyServer]:
    async with run_key_server(RSA, EC, ED) as server:
        yield server


@pytest.fixture
def keys(server: KeyServer, clock: FakeTime) -> RemoteKeys:
    return RemoteKeys(server.url, lifetime=LIFETIME, timeout=TIMEOUT, monotonic=clock)


async def settled(keys: RemoteKeys) -> None:
    """Return when the fetch under way is over."""
    if keys._fetching:
        await asyncio.wait([keys._fetching])


class TestParse:
    @pytest.mark.parametrize("key", [RSA, EC, ED])
    def test_public_keys_for_signatures_are_taken(self, key):
        [parsed] = parse_key_set(json.dumps({"keys": [public(key, use="sig", key_ops=["verify"])]}).encode())

        assert (parsed.kid, parsed.is_private) == (key.kid, False)

    @pytest.mark.parametrize(
        "unusable",
        [
            pytest.param(lambda: public(RSA, use="enc"), id="for encryption"),
            pytest.param(lambda: RSA.as_dict(private=True), id="private"),
            pytest.param(lambda: OctKey.generate_key(256).as_dict(private=True), id="a secret"),
            pytest.param(lambda: {**public(RSA), "n": "0" * 171}, id="RSA with 1024 bits"),
            pytest.param(lambda: {**public(RSA), "e": "AA"}, id="RSA with no exponent"),
            pytest.param(lambda: public(ECKey.generate_key("P-384")), id="P-384"),
            pytest.param(lambda: public(ECKey.generate_key("secp256k1")), id="secp256k1"),
            pytest.param(lambda: public(OKPKey.generate_key("Ed448")), id="Ed448"),
            pytest.param(lambda: public(OKPKey.generate_key("X25519")), id="X25519"),
            pytest.param(lambda: {**public(EC), "x": "A" * 43}, id="a point that is not on the curve"),
            pytest.param(lambda: {**public(EC), "crv": ["P-256"]}, id="a curve that is a list"),
            pytest.param(lambda: {**public(EC), "kty": "AKP"}, id="a type of tomorrow"),
            pytest.param(lambda: {"kid": "x"}, id="no type"),
            pytest.param(lambda: {**public(EC), "kid": 7}, id="an id that is a number"),
            pytest.param(lambda: "key", id="no object"),
            pytest.param(lambda: None, id="null"),
        ],
    )
    def test_others_are_left_out(self, unusable):
        assert [key.kid for key in parse_key_set(json.dumps({"keys": [unusable(), public(ED)]}).encode())] == ["ed"]
        with pytest.raises(KeyServerFailed, match="no usable key"):
            parse_key_set(json.dumps({"keys": [unusable()]}).encode())

    @pytest.mark.parametrize(
        "body", [b"", b"<html>", b"[]", b"{}", b'{"keys": {}}', b"\xff", b"[" * 100_000, b"1" * 5000]
    )
    def test_what_is_no_key_set_is_refused(self, body: bytes):
        with pytest.raises(KeyServerFailed):
            parse_key_set(body)


class TestChoice:
    @pytest.mark.parametrize(
        ("algorithm", "key_id"), [("RS256", "rsa"), ("ES256", "ec"), ("EdDSA", "ed"), ("Ed25519", "ed")]
    )
    async def test_a_key_is_found_by_its_id_or_by_being_the_only_one(self, keys: RemoteKeys, algorithm, key_id):
        assert (await keys.get_key(algorithm, key_id)).kid == key_id
        assert (await keys.get_key(algorithm, None)).kid == key_id

    @pytest.mark.parametrize(
        ("algorithm", "key_id"), [("RS256", "ec"), ("ES256", "rsa"), ("EdDSA", "ec"), ("ES256", "")]
    )
    async def test_a_key_goes_with_its_own_algorithm_only(self, keys: RemoteKeys, algorithm: str, key_id: str):
        with pytest.raises(KeyNotFound):
            await keys.get_key(algorithm, key_id)

    async def test_a_key_that_names_its_algorithm_is_for_no_other(self, keys: RemoteKeys, server: KeyServer):
        server.keys = [public(RSA, alg="PS256"), public(ED, alg="EdDSA")]

        with pytest.raises(KeyNotFound):
            await keys.get_key("RS256", "rsa")
        assert (await keys.get_key("EdDSA", "ed")).kid == "ed"

    async def test_without_an_id_nothing_is_guessed(self, keys: RemoteKeys, server: KeyServer):
        server.keys.append(public(NEW))

        with pytest.raises(KeyNotFound):
            await keys.get_key("ES256", None)


class TestFetch:
    async def test_one_fetch_serves_all_for_the_lifetime(self, keys: RemoteKeys, server: KeyServer, clock: FakeTime):
        await asyncio.gather(*(keys.get_key("ES256", "ec") for _ in range(50)))
        clock.pass_by(LIFETIME - timedelta(seconds=1))
        await keys.get_key("RS256", "rsa")
        assert server.request_count == 1

        clock.pass_by(timedelta(seconds=1))
        await asyncio.gather(*(keys.get_key("ES256", "ec") for _ in range(50)))

        assert server.request_count == 2

    async def test_a_key_that_is_withdrawn_is_forgotten_after_the_lifetime(
        self, keys: RemoteKeys, server: KeyServer, clock: FakeTime
    ):
        await keys.get_key("ES256", "ec")
        server.keys = [public(ED)]
        clock.pass_by(LIFETIME)

        with pytest.raises(KeyNotFound):
            await keys.get_key("ES256", "ec")

    async def test_a_new_key_is_fetched_when_a_token_names_it(
        self, keys: RemoteKeys, server: KeyServer, clock: FakeTime
    ):
        await keys.get_key("ES256", "ec")
        server.keys = [public(NEW)]
        clock.pass_by(timedelta(seconds=10))

        found = await asyncio.gather(*(keys.get_key("ES256", "new") for _ in range(20)))

        assert {key.kid for key in found} == {"new"}
        assert server.request_count == 2

    async def test_made_up_key_ids_do_not_reach_the_key_server(
        self, keys: RemoteKeys, server: KeyServer, clock: FakeTime
    ):
        refused = 0
        for number in range(1000):
            try:
                await keys.get_key("ES256", f"made up {number}")
            except KeyNotFound:
                refused += 1
            clock.pass_by(timedelta(seconds=0.1))

        # 100 s: the first fetch, then one in ten seconds.
        assert (refused, server.request_count) == (1000, 10)

    async def test_a_caller_who_hangs_up_does_not_end_the_fetch_of_the_others(
        self, keys: RemoteKeys, server: KeyServer
    ):
        server.answering.clear()
        impatient = asyncio.create_task(keys.get_key("ES256", "ec"))
        patient = asyncio.create_task(keys.get_key("ES256", "ec"))
        await server.asked.wait()

        impatient.cancel()
        await asyncio.wait([impatient])
        server.answering.set()

        assert (await patient).kid == "ec"
        assert server.request_count == 1

    async def test_it_asks_for_json_without_compression_and_takes_no_detours(
        self, keys: RemoteKeys, server: KeyServer, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

        await keys.get_key("ES256", "ec")

        assert "accept-encoding: identity" in server.last_request.lower()


async def misbehave(server: KeyServer, how: str) -> None:
    deeds: dict[str, dict[str, Any]] = {
        "500": {"status": 500},
        "404": {"status": 404},
        "204": {"status": 204, "body": b""},
        "redirect": {"status": 302, "headers": f"Location: {server.url}\r\n", "body": b""},
        "hang": {"hangs": True},
        "drip": {"drips": True},
        "no JSON": {"body": b"<html>Sorry</html>"},
        "no keys": {"body": b'{"keys": []}'},
        "flood": {"body": b" " * 300_000},
        "compressed": {"headers": "Content-Encoding: gzip\r\n", "body": b"\x1f\x8b\x08\x00"},
        "cut off": {"headers": "Content-Length: 99999\r\n"},
    }
    for name, value in deeds[how].items():
        setattr(server, name, value)


MISDEEDS = [
    "500", "404", "204", "redirect", "hang", "drip", "no JSON", "no keys", "flood", "compressed", "cut off",
]  # fmt: skip


@pytest.mark.parametrize("how", MISDEEDS)
class TestOutage:
    async def test_known_keys_go_on_being_used(self, keys: RemoteKeys, server: KeyServer, clock: FakeTime, how: str):
        await keys.get_key("ES256", "ec")
        await misbehave(server, how)
        for _ in range(5):
            clock.pass_by(LIFETIME)
            assert (await keys.get_key("ES256", "ec")).kid == "ec"
            await settled(keys)

        assert server.request_count >= 2
        with pytest.raises(KeyNotFound):
            await keys.get_key("ES256", "new")

    async def test_without_any_key_the_caller_is_asked_to_come_back(
        self, keys: RemoteKeys, server: KeyServer, clock: FakeTime, how: str
    ):
        await misbehave(server, how)
        began = time.monotonic()
        refusals = await asyncio.gather(*(keys.get_key("ES256", "ec") for _ in range(20)), return_exceptions=True)
        took = time.monotonic() - began

        assert {type(refusal) for refusal in refusals} == {ServiceUnavailable}
        assert ServiceUnavailable.headers["Retry-After"] == "2"
        assert server.request_count == 1
        assert took < TIMEOUT.total_seconds() + 0.5

        server.status, server.body, server.headers, server.hangs, server.drips = 200, None, "", False, False
        clock.pass_by(timedelta(seconds=2))
        assert (await keys.get_key("ES256", "ec")).kid == "ec"


class TestPatience:
    async def test_only_the_first_to_find_the_key_server_hanging_waits(
        self, keys: RemoteKeys, server: KeyServer, clock: FakeTime
    ):
        await keys.get_key("ES256", "ec")
        server.hangs = True
        clock.pass_by(LIFETIME)
        await keys.get_key("ES256", "ec")

        began = time.monotonic()
        for _ in range(10):
            clock.pass_by(timedelta(seconds=2))
            await keys.get_key("ES256", "ec")

        assert time.monotonic() - began < TIMEOUT.total_seconds()
        await settled(keys)

    async def test_after_an_outage_the_new_keys_are_used(self, keys: RemoteKeys, server: KeyServer, clock: FakeTime):
        await keys.get_key("ES256", "ec")
        server.status = 500
        clock.pass_by(LIFETIME)
        await keys.get_key("ES256", "ec")
        server.status, server.keys = 200, [public(NEW)]
        clock.pass_by(timedelta(seconds=2))

        assert (await keys.get_key("ES256", "new")).kid == "new"

    async def test_a_server_that_is_not_there_is_an_outage(self, clock: FakeTime):
        keys = RemoteKeys("http://127.0.0.1:1/keys", lifetime=LIFETIME, timeout=TIMEOUT, monotonic=clock)

        with pytest.raises(ServiceUnavailable):
            await keys.get_key("ES256", "ec")

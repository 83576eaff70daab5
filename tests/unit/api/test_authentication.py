"""Which tokens are believed, and what is read from them: by a shared secret, and by the keys of a key server."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwe
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from pydantic import ValidationError

from api.authentication import Identity, TokenVerifier, build_verifier
from api.jwks import RemoteKeys, parse_key_set
from api.problems import InvalidToken, ServiceUnavailable
from api.settings import JwtSettings
from api.signing_keys import SharedSecret
from tests.fakes.key_server import PrivateKey, public, run_key_server, sign

SECRET = "a secret of the tests, long enough for HS256"
NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
INSTANT = int(NOW.timestamp())
CLAIMS = {"iss": "issuer", "aud": "audience", "sub": "alice", "tenant": "demo", "exp": INSTANT + 60}
SETTINGS = JwtSettings.model_validate({"jwt_secret": SECRET, "jwt_issuer": "issuer", "jwt_audience": "audience"})

RSA_KEY = RSAKey.generate_key(2048, {"kid": "rsa"})
EC_KEY = ECKey.generate_key("P-256", {"kid": "ec"})
ED_KEY = OKPKey.generate_key("Ed25519", {"kid": "ed"})
KEYS: dict[str, PrivateKey] = {"RS256": RSA_KEY, "ES256": EC_KEY, "EdDSA": ED_KEY}
ALGORITHMS = ["HS256", *KEYS]


def encoded(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def signed(claims: object = CLAIMS, *, secret: str | bytes = SECRET, **header: Any) -> str:
    """Return a token signed by hand, so that it may say what no library would let it say."""
    content = f"{encoded({'alg': 'HS256', 'typ': 'JWT', **header})}.{encoded(claims)}"
    digest = hmac.new(secret.encode() if isinstance(secret, str) else secret, content.encode(), hashlib.sha256).digest()
    return f"{content}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def signed_by(algorithm: str, claims: object = CLAIMS, **header: Any) -> str:
    """Return a token that is right in all but what it says."""
    if algorithm == "HS256":
        return signed(claims, **header)
    key = KEYS[algorithm]
    content = f"{encoded({'alg': algorithm, 'typ': 'JWT', 'kid': key.kid, **header})}.{encoded(claims)}"
    signature = _signature(content.encode(), algorithm)
    return f"{content}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def _signature(content: bytes, algorithm: str) -> bytes:
    return JWSRegistry.algorithms[algorithm].sign(content, KEYS[algorithm])


def without(claim: str) -> dict[str, Any]:
    return {name: value for name, value in CLAIMS.items() if name != claim}


BAD_CLAIMS: dict[str, object] = {
    "claims that are a list": [],
    "expired": {**CLAIMS, "exp": INSTANT - 11},
    "expiry that is a text": {**CLAIMS, "exp": str(INSTANT + 60)},
    "expiry that is true": {**CLAIMS, "exp": True},
    "expiry that is no number": {**CLAIMS, "exp": float("nan")},
    "expiry that never comes": {**CLAIMS, "exp": float("inf")},
    "no expiry": without("exp"),
    "not valid yet": {**CLAIMS, "nbf": INSTANT + 60},
    "issued in the future": {**CLAIMS, "iat": INSTANT + 60},
    "issued at no time": {**CLAIMS, "iat": "yesterday"},
    "another issuer": {**CLAIMS, "iss": "somebody"},
    "issuers": {**CLAIMS, "iss": ["issuer"]},
    "no issuer": without("iss"),
    "another audience": {**CLAIMS, "aud": "somebody"},
    "other audiences": {**CLAIMS, "aud": ["somebody", "audience2"]},
    "no audience": without("aud"),
    "no subject": without("sub"),
    "an empty subject": {**CLAIMS, "sub": ""},
    "a blank subject": {**CLAIMS, "sub": " "},
    "a subject that is a number": {**CLAIMS, "sub": 1},
    "a subject with NUL": {**CLAIMS, "sub": "a\x00"},
    "a subject with half a character": {**CLAIMS, "sub": "a\ud800"},
    "a subject that is too long": {**CLAIMS, "sub": "x" * 256},
    "no tenant": without("tenant"),
    "an empty tenant": {**CLAIMS, "tenant": ""},
    "a tenant that is a list": {**CLAIMS, "tenant": ["demo"]},
    "a tenant with NUL": {**CLAIMS, "tenant": "demo\x00"},
    "a tenant that is too long": {**CLAIMS, "tenant": "x" * 101},
    "too long": {**CLAIMS, "padding": "x" * 8192},
}

BAD_HEADERS: dict[str, dict[str, Any]] = {
    "a key of its own": {"jwk": {"kty": "oct", "k": "AAAA"}},
    "its own public key": {"jwk": public(EC_KEY)},
    "an address of keys": {"jku": "https://evil.example/keys"},
    "an address of certificates": {"x5u": "https://evil.example/certificate"},
    "a certificate of its own": {"x5c": ["AAAA"]},
    "an unknown critical extension": {"crit": ["exp"], "exp": INSTANT + 60},
    "no critical extensions": {"crit": []},
    "an unencoded payload": {"crit": ["b64"], "b64": False},
    "an encoded payload, said so": {"b64": True},
    "another type": {"typ": "secevent+jwt"},
    "a type that is a list": {"typ": ["JWT"]},
    "a key id that is a number": {"kid": 1},
    "a key id that is a list": {"kid": ["rsa"]},
    "another algorithm than signed": {"alg": "HS512"},
    "no algorithm": {"alg": "none"},
    "no algorithm, spelt oddly": {"alg": "nOnE"},
    "an algorithm that is a list": {"alg": ["HS256"]},
    "an algorithm that is null": {"alg": None},
    "a header that is too long": {"kid": "x" * 1000},
}


def parts(algorithm: str) -> tuple[str, str, str]:
    header, claims, signature = signed_by(algorithm).split(".")
    return header, claims, signature


BAD_FORMS: dict[str, Callable[[str], str]] = {
    "empty": lambda _: "",
    "no token at all": lambda _: "nonsense",
    "two parts": lambda algorithm: ".".join(parts(algorithm)[:2]),
    "four parts": lambda algorithm: signed_by(algorithm) + ".e30",
    "not ASCII": lambda _: "ä.ö.ü",
    "not base64": lambda algorithm: f"!!!.{parts(algorithm)[1]}.{parts(algorithm)[2]}",
    "a header that is not UTF-8": lambda _: "_____w.e30.e30",
    "a header that is a list": lambda algorithm: f"{encoded([])}.{parts(algorithm)[1]}.",
    "a header that is a list of the right words": lambda _: f"{encoded(['alg', 'b64'])}.{encoded(CLAIMS)}.e30",
    "a header that is a number": lambda _: f"{encoded(1)}.{encoded(CLAIMS)}.e30",
    "a header that is nested deeply": lambda _: base64.urlsafe_b64encode(b"[" * 6000).decode() + ".e30.e30",
    "no signature": lambda algorithm: ".".join([*parts(algorithm)[:2], ""]),
    "no algorithm and no signature": lambda _: f"{encoded({'alg': 'none'})}.{encoded(CLAIMS)}.",
    "a changed signature": lambda algorithm: signed_by(algorithm)[:-6] + "AAAAAA",
    "a signature of zeros": lambda algorithm: ".".join([*parts(algorithm)[:2], "A" * 86]),
    "changed claims": lambda algorithm: ".".join(
        [parts(algorithm)[0], encoded({**CLAIMS, "sub": "bob"}), parts(algorithm)[2]]
    ),
    "JSON instead of the compact form": lambda algorithm: json.dumps(
        dict(zip(("protected", "payload", "signature"), parts(algorithm), strict=True))
    ),
    "encrypted": lambda _: jwe.encrypt_compact(
        {"alg": "dir", "enc": "A256GCM"}, json.dumps(CLAIMS), OctKey.import_key(SECRET[:32])
    ),
}

BAD_SECRETS: dict[str, Callable[[], str]] = {
    "another secret": lambda: signed(secret=SECRET + "!"),
    "another hash": lambda: signed(alg="HS384"),
    "another kind of key": lambda: signed_by("RS256"),
    "a public key as secret": lambda: signed(secret=RSA_KEY.as_pem(private=False)),
}

ANOTHER_RSA_KEY = RSAKey.generate_key(2048, {"kid": "rsa"})

CONFUSIONS: dict[str, Callable[[], str]] = {
    "HS256 with the RSA key's PEM": lambda: signed(secret=RSA_KEY.as_pem(private=False), kid="rsa"),
    "HS256 with the RSA key's DER": lambda: signed(secret=RSA_KEY.as_der(private=False), kid="rsa"),
    "HS256 with the EC key's PEM": lambda: signed(secret=EC_KEY.as_pem(private=False), kid="ec"),
    "HS256 with the raw Ed25519 key": lambda: signed(
        secret=ED_KEY.public_key.public_bytes(Encoding.Raw, PublicFormat.Raw), kid="ed"
    ),
    "HS256 with the key server's answer": lambda: signed(secret=json.dumps(public(RSA_KEY)), kid="rsa"),
    "HS256 with an empty secret": lambda: signed(secret="", kid="rsa"),
    "RS256 with another key of the same id": lambda: sign(CLAIMS, ANOTHER_RSA_KEY, "RS256"),
    "ES256 with another key of the same id": lambda: sign(CLAIMS, ECKey.generate_key("P-256", {"kid": "ec"}), "ES256"),
    "EdDSA with another key of the same id": lambda: sign(
        CLAIMS, OKPKey.generate_key("Ed25519", {"kid": "ed"}), "EdDSA"
    ),
    "the id of another key": lambda: sign(CLAIMS, RSA_KEY, "RS256", kid="ec"),
    "an unknown id": lambda: sign(CLAIMS, RSA_KEY, "RS256", kid="unknown"),
    "an empty id": lambda: sign(CLAIMS, RSA_KEY, "RS256", kid=""),
    "an id that is a path": lambda: sign(CLAIMS, RSA_KEY, "RS256", kid="../../dev/null"),
    "RS384": lambda: sign(CLAIMS, RSA_KEY, "RS384"),
    "RS512": lambda: sign(CLAIMS, RSA_KEY, "RS512"),
    "PS256": lambda: sign(CLAIMS, RSA_KEY, "PS256"),
    "ES384": lambda: sign(CLAIMS, ECKey.generate_key("P-384", {"kid": "p384"}), "ES384"),
    "ES512": lambda: sign(CLAIMS, ECKey.generate_key("P-521", {"kid": "p521"}), "ES512"),
    "ES256K": lambda: sign(CLAIMS, ECKey.generate_key("secp256k1", {"kid": "k1"}), "ES256K"),
    "EdDSA on Ed448": lambda: sign(CLAIMS, OKPKey.generate_key("Ed448", {"kid": "ed448"}), "EdDSA"),
    "a DER signature": lambda: ".".join(
        [*parts("ES256")[:2], base64.urlsafe_b64encode(b"\x30\x06\x02\x01\x01\x02\x01\x01").decode().rstrip("=")]
    ),
}


def verifier_for(algorithm: str) -> TokenVerifier:
    """Return a verifier at noon that takes this algorithm; those with keys have them already."""
    if algorithm == "HS256":
        return TokenVerifier(SETTINGS, SharedSecret(SECRET), clock=lambda: NOW)
    keys = RemoteKeys(
        "https://issuer.invalid/keys",
        lifetime=timedelta(minutes=10),
        timeout=timedelta(seconds=1),
        monotonic=lambda: 0,
    )
    keys._keys = parse_key_set(json.dumps({"keys": [public(key) for key in KEYS.values()]}).encode())
    keys._fetched_at = keys._tried_at = 0
    return TokenVerifier(SETTINGS, keys, clock=lambda: NOW)


VERIFIERS = {algorithm: verifier_for(algorithm) for algorithm in ALGORITHMS}


async def assert_refused(verifier: TokenVerifier, token: str) -> None:
    with pytest.raises(InvalidToken) as refusal:
        await verifier.verify(token)

    assert refusal.value.detail == "The token is not valid here, or not any more."


@pytest.mark.parametrize("algorithm", ALGORITHMS)
class TestVerify:
    @pytest.mark.parametrize("claims", BAD_CLAIMS.values(), ids=BAD_CLAIMS.keys())
    async def test_bad_claims_are_refused(self, algorithm: str, claims: object):
        await assert_refused(VERIFIERS[algorithm], signed_by(algorithm, claims))

    @pytest.mark.parametrize("header", BAD_HEADERS.values(), ids=BAD_HEADERS.keys())
    async def test_bad_headers_are_refused(self, algorithm: str, header: dict[str, Any]):
        await assert_refused(VERIFIERS[algorithm], signed_by(algorithm, **header))

    @pytest.mark.parametrize("build", BAD_FORMS.values(), ids=BAD_FORMS.keys())
    async def test_what_has_not_the_form_of_a_token_is_refused(self, algorithm: str, build: Callable[[str], str]):
        await assert_refused(VERIFIERS[algorithm], build(algorithm))

    @pytest.mark.parametrize(
        "claims",
        [
            CLAIMS,
            {**CLAIMS, "aud": ["somebody", "audience"]},
            {**CLAIMS, "exp": INSTANT - 9},
            {**CLAIMS, "exp": INSTANT + 0.5},
            {**CLAIMS, "exp": 10**30},
            {**CLAIMS, "nbf": INSTANT, "iat": -(10**30), "jti": "1", "roles": ["admin"]},
        ],
    )
    async def test_a_good_token_names_its_bearer(self, algorithm: str, claims: dict[str, Any]):
        assert await VERIFIERS[algorithm].verify(signed_by(algorithm, claims)) == Identity("demo", "alice")

    @pytest.mark.parametrize(
        "header",
        [{"typ": "at+jwt"}, {"typ": "jwt"}, {"typ": "application/at+jwt"}, {"cat": "unknown"}, {"x5t": "AAAA"}],
    )
    async def test_harmless_headers_are_accepted(self, algorithm: str, header: dict[str, Any]):
        assert (await VERIFIERS[algorithm].verify(signed_by(algorithm, **header))).external_id == "alice"


class TestSharedSecret:
    @pytest.mark.parametrize("build", BAD_SECRETS.values(), ids=BAD_SECRETS.keys())
    async def test_a_token_by_anything_else_is_refused(self, build: Callable[[], str]):
        await assert_refused(VERIFIERS["HS256"], build())

    async def test_it_has_any_name(self):
        assert (await VERIFIERS["HS256"].verify(signed(kid="2026-11"))).external_id == "alice"


class TestKeys:
    @pytest.mark.parametrize("build", CONFUSIONS.values(), ids=CONFUSIONS.keys())
    async def test_a_key_is_not_taken_for_another(self, build: Callable[[], str]):
        await assert_refused(VERIFIERS["RS256"], build())

    async def test_the_newer_name_of_eddsa_is_understood(self):
        assert (await VERIFIERS["EdDSA"].verify(sign(CLAIMS, ED_KEY, "Ed25519"))).external_id == "alice"

    async def test_a_token_without_a_key_id_is_checked_with_the_only_key_that_fits(self):
        header, claims = encoded({"alg": "ES256"}), encoded(CLAIMS)
        signature = _signature(f"{header}.{claims}".encode(), "ES256")
        token = f"{header}.{claims}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"

        assert (await VERIFIERS["ES256"].verify(token)).external_id == "alice"

    async def test_they_come_from_the_address_in_the_settings(self):
        async with run_key_server(EC_KEY) as server:
            verifier = build_verifier(
                JwtSettings.model_validate(
                    {"jwt_jwks_url": server.url, "jwt_issuer": "issuer", "jwt_audience": "audience"}
                )
            )
            in_an_hour = int((datetime.now(UTC) + timedelta(hours=1)).timestamp())

            identity = await verifier.verify(sign({**CLAIMS, "exp": in_an_hour}, EC_KEY, "ES256"))

        assert identity.external_id == "alice"

    async def test_what_can_never_be_valid_is_refused_without_asking_the_key_server(self):
        async with run_key_server(EC_KEY) as server:
            keys = RemoteKeys(server.url, lifetime=timedelta(minutes=10), timeout=timedelta(seconds=1))
            verifier = TokenVerifier(SETTINGS, keys, clock=lambda: NOW)

            for name, header in BAD_HEADERS.items():
                if name != "a header that is too long":
                    await assert_refused(verifier, signed_by("ES256", **header))
            await assert_refused(verifier, signed())
            await assert_refused(verifier, "nonsense")

            assert server.request_count == 0

    async def test_no_token_is_called_invalid_before_there_are_keys(self):
        async with run_key_server(EC_KEY) as server:
            server.status = 500
            keys = RemoteKeys(server.url, lifetime=timedelta(minutes=10), timeout=timedelta(seconds=1))

            with pytest.raises(ServiceUnavailable):
                await TokenVerifier(SETTINGS, keys, clock=lambda: NOW).verify(signed_by("ES256"))


class TestPerson:
    async def test_what_is_known_of_the_person_is_read(self):
        claims = {
            **CLAIMS,
            "name": "Alice A.",
            "email": "alice@example.com",
            "locale": "en_gb",
            "zoneinfo": "Europe/Berlin",
            "iat": INSTANT - 5,
        }

        assert await VERIFIERS["HS256"].verify(signed(claims)) == Identity(
            "demo", "alice", "Alice A.", "alice@example.com", "en-GB", "Europe/Berlin", NOW - timedelta(seconds=5)
        )

    @pytest.mark.parametrize(
        ("claim", "value"),
        [
            ("name", "A\x00lice"),
            ("name", " "),
            ("name", "x" * 201),
            ("name", {"given": "Alice"}),
            ("email", "alice"),
            ("email", "alice@example.com\r\nBcc: everyone@example.com"),
            ("email", ["alice@example.com"]),
            ("locale", "english"),
            ("locale", "en-"),
            ("zoneinfo", "Mars/Olympus_Mons"),
            ("zoneinfo", "../../etc/passwd"),
            ("zoneinfo", 1),
        ],
    )
    async def test_what_cannot_be_used_is_left_out(self, claim: str, value: object):
        assert await VERIFIERS["HS256"].verify(signed({**CLAIMS, claim: value})) == Identity("demo", "alice")


class TestSettings:
    def test_a_short_secret_is_refused(self):
        with pytest.raises(ValidationError, match="at least 32 bytes"):
            JwtSettings.model_validate({"jwt_secret": "x" * 31, "jwt_issuer": "i", "jwt_audience": "a"})

    def test_bytes_count_rather_than_characters(self):
        JwtSettings.model_validate({"jwt_secret": "ä" * 16, "jwt_issuer": "i", "jwt_audience": "a"})

    @pytest.mark.parametrize(
        "url",
        [
            "https://issuer.example/.well-known/jwks.json",
            "https://issuer.example:8443/keys?tenant=1",
            "http://localhost:9000/keys",
            "http://127.0.0.1/keys",
            "http://[::1]:9000/keys",
        ],
    )
    def test_keys_come_by_https_or_from_this_machine(self, url: str):
        JwtSettings.model_validate({"jwt_jwks_url": url, "jwt_issuer": "i", "jwt_audience": "a"})

    @pytest.mark.parametrize(
        "url",
        [
            "http://issuer.example/keys",
            "http://localhost.evil.example/keys",
            "http://127.0.0.1.evil.example/keys",
            "http://10.0.0.1/keys",
            "https://user:password@issuer.example/keys",
            "https:///keys",
            "file:///etc/passwd",
            "issuer.example/keys",
            "https://issuer.example:99999/keys",
        ],
    )
    def test_keys_come_from_nowhere_else(self, url: str):
        with pytest.raises(ValidationError, match="jwt_jwks_url"):
            JwtSettings.model_validate({"jwt_jwks_url": url, "jwt_issuer": "i", "jwt_audience": "a"})

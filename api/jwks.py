"""The identity provider's public keys: read from a JWK Set (RFC 7517), fetched from its URL, kept."""

import asyncio
import json
import time
import warnings
from collections.abc import Callable, Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import httpx
import structlog
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, OKPKey, RSAKey
from typing_extensions import override

from api.problems import ServiceUnavailable
from api.signing_keys import KeyNotFound, SigningKey, SigningKeys

logger = structlog.get_logger(__name__)

# What a key must be for an algorithm. `EdDSA` is the older name of `Ed25519` (RFC 9864), and still the usual one.
KEY_TYPES: Mapping[str, type[SigningKey]] = {"RS256": RSAKey, "ES256": ECKey, "EdDSA": OKPKey, "Ed25519": OKPKey}
MIN_RSA_BITS = 2048  # RFC 7518, section 3.3
PRIVATE_MEMBERS = frozenset({"d", "k", "p", "q"})

MAX_BODY_BYTES = 256 * 1024

# The key server is asked at most once in that time, whatever tokens say: a made-up key id costs it nothing.
PAUSE_AFTER_SUCCESS = timedelta(seconds=10)
# Not longer than the `Retry-After` of the 503 that callers get while there are no keys at all.
PAUSE_AFTER_FAILURE = timedelta(seconds=2)


class KeyServerFailed(Exception):
    """The key server did not answer with a usable set of keys."""


class RemoteKeys(SigningKeys):
    """The keys behind a URL.

    They are fetched when first needed, again when they have reached their lifetime, and once when a token names a key
    that is not among them: that is how an issuer introduces a new one. While the key server is away, the keys of the
    last good answer go on being used, and nobody waits for it more than once. All who need keys at the same time wait
    for the same fetch.
    """

    algorithms = frozenset(KEY_TYPES)

    def __init__(
        self, url: str, *, lifetime: timedelta, timeout: timedelta, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Describe where the keys are; nothing is fetched yet.

        Args:
            url: Where they are, `https`, or `http` on this machine.
            lifetime: How long they are used before they are fetched again.
            timeout: Longest time that one fetch may take in all.
            monotonic: A clock in seconds.
        """
        self._url = url
        self._lifetime = lifetime.total_seconds()
        self._timeout = timeout.total_seconds()
        self._monotonic = monotonic
        # Made once: reading the trusted certificates takes longer than a fetch.
        self._tls = httpx.create_ssl_context()
        self._keys: list[SigningKey] = []
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._failing = False
        self._fetching: asyncio.Task[None] | None = None

    @override
    async def get_key(self, algorithm: str, key_id: str | None) -> SigningKey:
        """Return the key of this id that goes with the algorithm; without an id, the only one that does.

        Raises:
            KeyNotFound: There is none, and asking the key server did not help or was done a moment ago.
            ServiceUnavailable: No key could be fetched since this process started.
        """
        await self._ensure_keys()
        key = self._find(algorithm, key_id)
        if key is None and key_id is not None:
            await self._refresh()
            key = self._find(algorithm, key_id)
        if key is None:
            message = "no such key"
            raise KeyNotFound(message)
        return key

    def _find(self, algorithm: str, key_id: str | None) -> SigningKey | None:
        fitting = [
            key
            for key in self._keys
            if isinstance(key, KEY_TYPES[algorithm])
            and key.alg in {None, algorithm}
            and (key_id is None or key.kid == key_id)
        ]
        # To choose among several would be to guess.
        return fitting[0] if len(fitting) == 1 else None

    async def _ensure_keys(self) -> None:
        if self._fetched_at is None:
            await self._refresh()
            if self._fetched_at is None:
                message = "The keys that tokens are checked with cannot be fetched at the moment. Try again shortly."
                raise ServiceUnavailable(message)
        elif self._monotonic() - self._fetched_at >= self._lifetime:
            # While it fails, it is tried in the background: old keys now are better than old keys later.
            await self._refresh(wait=not self._failing)

    async def _refresh(self, *, wait: bool = True) -> None:
        """Fetch the keys, unless that was tried a moment ago; join the fetch that is under way."""
        if self._fetching is None or self._fetching.done():
            pause = PAUSE_AFTER_FAILURE if self._failing else PAUSE_AFTER_SUCCESS
            if self._tried_at is not None and self._monotonic() - self._tried_at < pause.total_seconds():
                return
            self._fetching = asyncio.create_task(self._fetch())
        if wait:
            # Shielded: one caller who hangs up must not end the fetch that others wait for.
            await asyncio.shield(self._fetching)

    async def _fetch(self) -> None:
        try:
            self._keys = parse_key_set(await self._download())
        except (KeyServerFailed, httpx.HTTPError, TimeoutError, OSError) as error:
            self._failing = True
            logger.warning("jwks.unavailable", url=self._url, error=f"{type(error).__name__}: {error}")
        else:
            self._failing = False
            self._fetched_at = self._monotonic()
            logger.info("jwks.fetched", url=self._url, key_count=len(self._keys))
        finally:
            self._tried_at = self._monotonic()

    async def _download(self) -> bytes:
        """Return what the key server answers: at most so many bytes, within so much time, from no other address."""
        headers = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
        # A connection of its own each time: it would be idle for as long as the keys live.
        async with (
            asyncio.timeout(self._timeout),
            httpx.AsyncClient(
                verify=self._tls,
                timeout=self._timeout,
                follow_redirects=False,
                # A proxy that the environment names is for the way out; plain http never leaves this machine.
                trust_env=urlsplit(self._url).scheme == "https",
            ) as client,
            client.stream("GET", self._url, headers=headers) as response,
        ):
            if response.status_code != HTTPStatus.OK:
                message = f"it answered {response.status_code}"
                raise KeyServerFailed(message)
            body = bytearray()
            async for part in response.aiter_raw():
                body += part
                if len(body) > MAX_BODY_BYTES:
                    message = f"its answer is longer than {MAX_BODY_BYTES} bytes"
                    raise KeyServerFailed(message)
            return bytes(body)


def parse_key_set(body: bytes) -> list[SigningKey]:
    """Return the keys of a JWK Set that can be used here; the others are left out, as RFC 7517 asks.

    Raises:
        KeyServerFailed: It is no such set, or holds no key that can be used.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        message = "its answer is not JSON"
        raise KeyServerFailed(message) from error
    members = document.get("keys") if isinstance(document, dict) else None
    keys = []
    for member in members if isinstance(members, list) else []:
        try:
            keys.append(_import_key(member))
        except (JoseError, ValueError, TypeError, LookupError, AttributeError) as error:
            kid = member.get("kid") if isinstance(member, dict) else None
            logger.info("jwks.key_ignored", kid=kid, reason=str(error) or type(error).__name__)
    if not keys:
        message = "its answer holds no usable key"
        raise KeyServerFailed(message)
    return keys


def _import_key(jwk: Mapping[str, Any]) -> SigningKey:
    """Return a public key for signatures of one of our kinds.

    Raises:
        ValueError: It is of another kind or too weak, or it is not public.
        joserfc.errors.JoseError: It is malformed.
        TypeError, LookupError, AttributeError: Likewise.
    """
    if not PRIVATE_MEMBERS.isdisjoint(jwk):
        message = "it is not only public, so others may have it"
        raise ValueError(message)
    if jwk.get("use", "sig") != "sig":
        message = "it is not for signatures"
        raise ValueError(message)
    match jwk["kty"], jwk.get("crv"):
        case "RSA", _:
            return _import_rsa_key(jwk)
        case "EC", "P-256":
            return ECKey.import_key(dict(jwk))
        case "OKP", "Ed25519":
            return OKPKey.import_key(dict(jwk))
        case _:
            message = "its type or curve is not used here"
            raise ValueError(message)


def _import_rsa_key(jwk: Mapping[str, Any]) -> RSAKey:
    with warnings.catch_warnings():
        # The library only warns of what is refused here.
        warnings.simplefilter("ignore", SecurityWarning)
        key = RSAKey.import_key(dict(jwk))
    if key.public_key.key_size < MIN_RSA_BITS:
        message = f"it has fewer than {MIN_RSA_BITS} bits"
        raise ValueError(message)
    return key

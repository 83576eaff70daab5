"""Who is calling: tenant and user come from the token, and from nowhere else."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from joserfc import jwt
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jws import JWSRegistry
from typing_extensions import override

from api.jwks import RemoteKeys
from api.problems import InvalidToken
from api.profile import (
    MAX_EXTERNAL_ID_LENGTH,
    MAX_NAME_LENGTH,
    parse_email,
    parse_line,
    parse_locale,
    parse_time_zone,
)
from api.settings import JwtSettings
from api.signing_keys import SharedSecret, SigningKeys
from shared.clock import Clock, utc_now

logger = structlog.get_logger(__name__)

CLOCK_SKEW = timedelta(seconds=10)
MAX_TOKEN_LENGTH = 8192
MAX_TENANT_LENGTH = 100

# Headers that bring or point to a key, or ask for an extension: no token of ours has them.
REFUSED_HEADERS = frozenset({"b64", "crit", "jku", "jwk", "x5c", "x5u"})
TYPES = frozenset({None, "jwt", "at+jwt"})


@dataclass(frozen=True, slots=True)
class Identity:
    """What a valid token says of its bearer. None where it says nothing, or nothing that can be used.

    Attributes:
        tenant: Slug or id of the tenant.
        external_id: The identity provider's name for the user.
        name: How the user is called.
        email: Where the user gets mail.
        locale: The user's language, a BCP 47 tag.
        time_zone: The user's time zone, a name of the IANA database.
        issued_at: When the identity provider said so.
    """

    tenant: str
    external_id: str
    name: str | None = None
    email: str | None = None
    locale: str | None = None
    time_zone: str | None = None
    issued_at: datetime | None = None


def build_verifier(settings: JwtSettings) -> "TokenVerifier":
    """Return what checks the tokens of the issuer that the settings name."""
    if settings.jwt_secret is not None:
        return TokenVerifier(settings, SharedSecret(settings.jwt_secret.get_secret_value()))
    keys = RemoteKeys(
        str(settings.jwt_jwks_url), lifetime=settings.jwt_jwks_lifetime, timeout=settings.jwt_jwks_timeout
    )
    return TokenVerifier(settings, keys)


class TokenVerifier:
    """Checks tokens by the issuer's keys, its name, and for whom it means them."""

    def __init__(self, settings: JwtSettings, keys: SigningKeys, *, clock: Clock = utc_now) -> None:
        """Take the keys as they are; which algorithms are right is theirs to say."""
        self._settings = settings
        self._keys = keys
        self._clock = clock
        self._registry = _Algorithms(algorithms=keys.algorithms, strict_check_header=False)

    async def verify(self, token: str) -> Identity:
        """Return whom the token names.

        Raises:
            InvalidToken: It is forged, expired, meant for somebody else or incomplete. The caller is
                not told which, because it would help only a forger; the log says it.
            ServiceUnavailable: There are no keys to check it with yet.
        """
        try:
            return _parse_identity(await self._decode(token))
        except (JoseError, ValueError, RecursionError) as error:
            logger.info("token.refused", reason=str(error) or type(error).__name__)
            raise InvalidToken from error

    async def _decode(self, token: str) -> Mapping[str, Any]:
        if len(token) > MAX_TOKEN_LENGTH:
            message = "too long"
            raise ValueError(message)
        algorithm, key_id = self._check_header(_parse_header(token))
        key = await self._keys.get_key(algorithm, key_id)
        claims = jwt.decode(token, key, registry=self._registry).claims
        registry = jwt.JWTClaimsRegistry(
            now=int(self._clock().timestamp()),
            leeway=int(CLOCK_SKEW.total_seconds()),
            iss={"essential": True, "value": self._settings.jwt_issuer},
            aud={"essential": True, "value": self._settings.jwt_audience},
            exp={"essential": True},
            sub={"essential": True},
            tenant={"essential": True},
        )
        registry.validate(claims)
        return claims

    def _check_header(self, header: Mapping[str, Any]) -> tuple[str, str | None]:
        """Return algorithm and key id of a header that a token of ours can have.

        This comes before any key is looked for, so that what can never be valid moves nobody to fetch one.
        """
        algorithm, key_id, kind = header.get("alg"), header.get("kid"), header.get("typ")
        if isinstance(kind, str):
            # RFC 7515, section 4.1.9: media types, compared without case, their usual prefix left out.
            kind = kind.lower().removeprefix("application/")
        if (
            not isinstance(algorithm, str)
            or algorithm not in self._keys.algorithms
            or not isinstance(key_id, (str, type(None)))
            or not isinstance(kind, (str, type(None)))
            or kind not in TYPES
            or not REFUSED_HEADERS.isdisjoint(header)
        ):
            message = "unexpected header"
            raise ValueError(message)
        return algorithm, key_id


class _Algorithms(JWSRegistry):
    """The algorithms of our keys, without a warning at each use of `EdDSA`.

    RFC 9864 deprecates that name because it leaves the curve open; here the key has settled the curve.
    """

    @override
    def get_alg(self, name: str) -> Any:
        """Return the algorithm, if it is one of ours."""
        if name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]


def _parse_header(token: str) -> dict[str, Any]:
    segment = token.partition(".")[0].encode("ascii")
    header = json.loads(base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4)))
    if not isinstance(header, dict):
        message = "a header that is no object"
        raise ValueError(message)  # noqa: TRY004 - the token is wrong, not our use of it
    return header


def _parse_identity(claims: Mapping[str, Any]) -> Identity:
    external_id = _read(claims, "sub", lambda value: parse_line(value, max_length=MAX_EXTERNAL_ID_LENGTH))
    tenant = _read(claims, "tenant", lambda value: parse_line(value, max_length=MAX_TENANT_LENGTH))
    if external_id is None or tenant is None:
        message = "sub or tenant is not a usable text"
        raise ValueError(message)
    issued_at = claims.get("iat")
    return Identity(
        tenant=tenant,
        external_id=external_id,
        name=_read(claims, "name", lambda value: parse_line(value, max_length=MAX_NAME_LENGTH)),
        email=_read(claims, "email", parse_email),
        locale=_read(claims, "locale", parse_locale),
        time_zone=_read(claims, "zoneinfo", parse_time_zone),
        # That it is a number, and not in the future, has been checked with the others.
        issued_at=datetime.fromtimestamp(issued_at, UTC) if issued_at is not None and issued_at >= 0 else None,
    )


def _read(claims: Mapping[str, Any], name: str, parse: Callable[[str], str]) -> str | None:
    """Return a claim as `parse` reads it, None if it is not there or cannot be used."""
    value = claims.get(name)
    if not isinstance(value, str):
        return None
    try:
        return parse(value)
    except ValueError:
        return None

"""Settings of the api, one small class per concern; the values come from environment variables."""

import ipaddress
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_network
from typing import Annotated, Self
from urllib.parse import urlsplit

from annotated_types import Ge
from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.cors import CorsSettings
from api.rate_limiter import RateLimitSettings
from api.relay import RelaySettings
from api.revalidation import PollSettings
from shared.channels import ChannelSettings, load_channel_settings
from shared.encryption import EncryptionSettings
from shared.settings import (
    DatabaseSettings,
    Duration,
    ExpirySettings,
    LogSettings,
    QueueSettings,
    load_settings,
)
from shared.unsubscribe import PublicSettings

# RFC 7518, section 3.2: a key for HS256 has at least as many bits as its hash.
MIN_SECRET_BYTES = 32


def _from_seconds(value: object) -> object:
    return float(value) if isinstance(value, str) and value.replace(".", "", 1).isdigit() else value


class ApiSettings(BaseSettings):
    """How the server listens and stops."""

    host: str = Field(default="127.0.0.1", description="Address to listen on; the container images set `0.0.0.0`.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on.")
    forwarded_allow_ips: str = Field(
        default="127.0.0.1",
        description="Addresses or CIDRs of the load balancers whose `X-Forwarded-*` headers are believed.",
    )
    # Longer than the balancer's: whoever closes an idle connection last never closes it under a request.
    keep_alive: Duration = Field(
        default=timedelta(seconds=75),
        description="How long an idle connection stays open; longer than the load balancer's idle timeout.",
    )
    drain_delay: Annotated[timedelta, BeforeValidator(_from_seconds), Ge(timedelta(0))] = Field(
        default=timedelta(0),
        description="How long to go on serving after SIGTERM with `/readyz` at 503, so that balancers look away first.",
    )
    shutdown_timeout: Duration = Field(
        default=timedelta(seconds=5), description="How long requests under way may take to finish after that."
    )
    max_body_bytes: int = Field(default=256 * 1024, ge=1024, description="Largest body of a request.")

    # Uvicorn takes what it cannot read for a name that never matches, and `*` for everybody.
    @field_validator("forwarded_allow_ips")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        try:
            for network in filter(None, map(str.strip, value.split(","))):
                ip_network(network)
        except ValueError:
            message = "must be addresses or CIDRs such as 10.0.0.0/16, separated by commas"
            raise ValueError(message) from None
        return value


class JwtSettings(BaseSettings):
    """Whose tokens are valid. Exactly one of `JWT_JWKS_URL` and `JWT_SECRET` is set; an empty one counts as not set."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    jwt_jwks_url: str | None = Field(
        default=None,
        description="Where the issuer's public keys are (RS256, ES256, EdDSA): a JWK Set behind `https`; `http` only "
        "on this machine.",
    )
    jwt_secret: SecretStr | None = Field(
        default=None, description="Secret of at least 32 bytes that signs tokens (HS256), for development."
    )
    jwt_issuer: str = Field(min_length=1, description="Who must have issued a token (`iss`).")
    jwt_audience: str = Field(min_length=1, description="For whom a token must be meant (`aud`).")
    jwt_jwks_lifetime: Duration = Field(
        default=timedelta(minutes=10), description="How long the issuer's keys are used before they are fetched again."
    )
    jwt_jwks_timeout: Duration = Field(
        default=timedelta(seconds=3), description="Longest time that fetching the issuer's keys may take in all."
    )

    @field_validator("jwt_secret")
    @classmethod
    def _is_long_enough(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
            message = f"must have at least {MIN_SECRET_BYTES} bytes"
            raise ValueError(message)
        return secret

    @field_validator("jwt_jwks_url")
    @classmethod
    def _is_safe(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if not parts.hostname or parts.username is not None or parts.port == 0:
            message = "must be an address like https://issuer.example/jwks.json, without a password"
            raise ValueError(message)
        if parts.scheme != "https" and not (parts.scheme == "http" and _is_this_machine(parts.hostname)):
            message = "must start with https://, because whoever can change the keys on their way can be anybody"
            raise ValueError(message)
        return url

    @model_validator(mode="after")
    def _has_one_kind_of_key(self) -> Self:
        if (self.jwt_jwks_url is None) == (self.jwt_secret is None):
            message = "exactly one of JWT_JWKS_URL and JWT_SECRET must be set"
            raise ValueError(message)
        return self


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that an api process needs to know."""

    api: ApiSettings
    jwt: JwtSettings
    database: DatabaseSettings
    queue: QueueSettings
    relay: RelaySettings
    rate_limit: RateLimitSettings
    poll: PollSettings
    cors: CorsSettings
    channels: ChannelSettings
    encryption: EncryptionSettings
    public: PublicSettings
    expiry: ExpirySettings
    log: LogSettings

    @classmethod
    def from_environment(cls) -> Self:
        """Read all settings.

        Raises:
            shared.settings.SettingsInvalid: One is missing or wrong.
        """
        return cls(
            api=load_settings(ApiSettings),
            jwt=load_settings(JwtSettings),
            database=load_settings(DatabaseSettings),
            queue=load_settings(QueueSettings),
            relay=load_settings(RelaySettings),
            rate_limit=load_settings(RateLimitSettings),
            poll=load_settings(PollSettings),
            cors=load_settings(CorsSettings),
            channels=load_channel_settings(),
            encryption=load_settings(EncryptionSettings),
            public=load_settings(PublicSettings),
            expiry=load_settings(ExpirySettings),
            log=load_settings(LogSettings),
        )

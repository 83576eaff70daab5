"""Settings that api, worker and command line have in common, one small class per concern.

Values come from environment variables only.
"""

from datetime import timedelta
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from annotated_types import Gt
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

S = TypeVar("S", bound=BaseSettings)


class SettingsInvalid(Exception):
    """A setting is missing or wrong; the message names its environment variable."""


def load_settings(settings_class: type[S]) -> S:
    """Return the settings that the environment holds.

    Raises:
        SettingsInvalid: One is missing or wrong. The message never repeats a value, which may be a secret.
    """
    try:
        return settings_class()
    except ValidationError as error:
        prefix = settings_class.model_config.get("env_prefix", "")
        problems = [
            f"{prefix}{'.'.join(map(str, problem['loc']))}".upper() + f": {problem['msg']}"
            # What is wrong with several settings together has no place of its own, and says which they are.
            if problem["loc"]
            else str(problem["msg"])
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise SettingsInvalid("\n".join(["The environment does not hold what is needed.", *problems])) from None


def _from_seconds(value: Any) -> Any:
    try:
        return timedelta(seconds=float(value))
    except (TypeError, ValueError):
        return value


# Seconds (`5`, `0.2`) as people write them, ISO 8601 (`PT5S`) as programs do.
Duration = Annotated[timedelta, BeforeValidator(_from_seconds), Gt(timedelta(0))]


class DatabaseSettings(BaseSettings):
    """How to reach PostgreSQL, and how long to wait for it."""

    model_config = SettingsConfigDict(env_prefix="DATABASE_")

    url: SecretStr = Field(description="PostgreSQL URL, `postgresql://user:password@host:5432/name`.")
    pool_size: int = Field(default=10, ge=1, description="Connections kept open by one process.")
    pool_overflow: int = Field(default=10, ge=0, description="Further connections opened under load.")
    pool_timeout: Duration = Field(
        default=timedelta(seconds=2), description="Longest wait for a free connection before answering 503."
    )
    connect_timeout: Duration = Field(default=timedelta(seconds=5), description="Longest wait for a new connection.")
    statement_timeout: Duration = Field(
        default=timedelta(seconds=5), description="Longest time one statement may take (the worker's default is 30)."
    )
    lock_timeout: Duration = Field(default=timedelta(seconds=2), description="Longest wait for a row or table lock.")
    statement_cache_size: int = Field(
        default=100,
        ge=0,
        description="Prepared statements kept per connection; 0 behind PgBouncer in transaction mode.",
    )

    @field_validator("url")
    @classmethod
    def _is_of_postgresql(cls, url: SecretStr) -> SecretStr:
        """Refuse what the driver would trip over later, with an error that shows the value."""
        parts = urlsplit(url.get_secret_value())
        if parts.scheme not in {"postgresql", "postgres", "postgresql+asyncpg"} or not parts.path.strip("/"):
            message = "must look like postgresql://user:password@host:5432/name"
            raise ValueError(message)
        return url


class QueueSettings(BaseSettings):
    """Which SQS queues to use. Credentials come from the standard AWS chain (environment, profile, instance role)."""

    model_config = SettingsConfigDict(env_prefix="SQS_")

    queue_name: str = Field(default="scenario-events", description="Queue of domain events.")
    dead_letter_queue_name: str = Field(
        default="scenario-events-dead", description="Queue of the messages that could not be handled."
    )
    endpoint_url: str | None = Field(default=None, description="Endpoint of an SQS look-alike; AWS itself when unset.")
    region: str = Field(
        default="eu-central-1",
        validation_alias="AWS_REGION",
        description="AWS region of the queues.",
    )
    visibility_timeout: Duration = Field(
        default=timedelta(seconds=30), description="How long a received message stays hidden; a heartbeat extends it."
    )
    call_timeout: Duration = Field(default=timedelta(seconds=5), description="Total deadline of one call to SQS.")


class ExpirySettings(BaseSettings):
    """For how long what is sent may still matter."""

    model_config = SettingsConfigDict(env_prefix="DELIVERY_")

    expire_after: Duration = Field(
        default=timedelta(days=4),
        description="How long a delivery is tried at most, from its creation or from when a program asks for it again.",
    )


class LogSettings(BaseSettings):
    """What the logs look like."""

    model_config = SettingsConfigDict(env_prefix="LOG_")

    format: Literal["json", "console"] = Field(default="json", description="`json` for machines, `console` for people.")
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level logged."
    )

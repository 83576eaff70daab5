"""Counts what callers ask for, and tells when it is too much."""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from typing import Any, cast
from uuid import UUID

import structlog
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import RedisStorage, Storage
from limits.aio.storage.redis.redispy import RedispyBridge
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import StorageError
from limits.storage import storage_from_string
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.rate_limit_windows import WindowStorage

logger = structlog.get_logger(__name__)

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
REDIS_SCHEMES = ("redis://", "rediss://")
# A limiter that is slow is worse than none. While its storage is away, not every request should find that out.
STORAGE_DEADLINE = timedelta(milliseconds=250)
STORAGE_PAUSE = timedelta(seconds=5)


class RateLimitSettings(BaseSettings):
    """How much one caller may ask for."""

    model_config = SettingsConfigDict(env_prefix="RATE_LIMIT_")

    enabled: bool = Field(default=True, description="Whether callers are limited at all.")
    reads: int = Field(default=600, ge=1, description="Requests a minute that one caller may read with (GET).")
    writes: int = Field(default=300, ge=1, description="Requests a minute that one caller may change something with.")
    storage_url: SecretStr | None = Field(
        default=None,
        description="Where requests are counted: `redis://...` or `rediss://...` (needs the extra `redis`). When "
        "unset, each process counts its own, so that a caller may ask for as much of each.",
    )

    @field_validator("storage_url")
    @classmethod
    def _is_usable(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(REDIS_SCHEMES):
            message = f"must start with {' or '.join(REDIS_SCHEMES)}"
            raise ValueError(message)
        if url is not None and find_spec("redis") is None:
            message = "needs the extra `redis`: pip install 'scenario-notifications[redis]'"
            raise ValueError(message)
        return url


@dataclass(frozen=True, slots=True)
class Policy:
    """How many requests of one kind a caller has in a window."""

    name: str
    item: RateLimitItem

    @property
    def header(self) -> str:
        """The value of `RateLimit-Policy`: a list of structured fields (draft-ietf-httpapi-ratelimit-headers-10)."""
        return f'"{self.name}";q={self.item.amount};w={self.item.get_expiry()}'


@dataclass(frozen=True, slots=True)
class Quota:
    """What a caller has left of a policy after this request.

    Attributes:
        policy: Which policy.
        is_exceeded: Whether this request was one too many.
        remaining: Requests left in this window.
        reset_after: Seconds until the window ends, rounded up.
    """

    policy: Policy
    is_exceeded: bool
    remaining: int
    reset_after: int

    def to_headers(self) -> dict[str, str]:
        """Return the headers that tell the caller."""
        return {
            "RateLimit-Policy": self.policy.header,
            "RateLimit": f'"{self.policy.name}";r={self.remaining};t={self.reset_after}',
        }


class RateLimiter:
    """Counts the requests of each caller in windows of a minute that begin with a caller's first request.

    Where the counts are away everybody passes: a service that is not limited for a while is better
    than one that is not there.
    """

    def __init__(
        self,
        settings: RateLimitSettings,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the storage; it is reached at the first request."""
        self._enabled = settings.enabled
        self._reads = Policy("reads", RateLimitItemPerMinute(settings.reads))
        self._writes = Policy("writes", RateLimitItemPerMinute(settings.writes))
        self._storage = _build_storage(settings.storage_url, clock)
        self._limiter = FixedWindowRateLimiter(self._storage)
        self._clock = clock
        self._monotonic = monotonic
        self._resting_until = float("-inf")

    async def spend(self, caller_id: UUID, method: str) -> Quota | None:
        """Count one request of the caller; return what is left, None where nothing is counted."""
        if not self._enabled or self._monotonic() < self._resting_until:
            return None
        policy = self._reads if method in SAFE_METHODS else self._writes
        try:
            async with asyncio.timeout(STORAGE_DEADLINE.total_seconds()):
                within = await self._limiter.hit(policy.item, policy.name, str(caller_id))
                stats = await self._limiter.get_window_stats(policy.item, policy.name, str(caller_id))
        except (StorageError, OSError) as error:
            self._resting_until = self._monotonic() + STORAGE_PAUSE.total_seconds()
            logger.warning("rate_limits.unavailable", error=repr(error), retry_in=STORAGE_PAUSE.total_seconds())
            return None
        return Quota(
            policy=policy,
            is_exceeded=not within,
            remaining=stats.remaining,
            reset_after=max(1, math.ceil(stats.reset_time - self._clock())),
        )

    async def aclose(self) -> None:
        """Close the connections to the storage, if it has any."""
        if isinstance(self._storage, RedisStorage) and isinstance(self._storage.bridge, RedispyBridge):
            # The library's own type of a client names only what it calls.
            await cast("Any", self._storage.bridge.get_connection()).aclose()


def _build_storage(url: SecretStr | None, clock: Callable[[], float]) -> Storage:
    if url is None:
        return WindowStorage(clock)
    address = f"async+{url.get_secret_value()}"
    return cast("Storage", storage_from_string(address, implementation="redispy", wrap_exceptions=True))

"""Which program is calling: an API key, looked up by its prefix, compared by its digest, remembered for seconds."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from api.problems import InvalidToken
from shared.clock import Clock, utc_now
from shared.models import ApiKey
from shared.models.api_key import hash_key, parse_prefix
from shared.scope import Scope, enter_scope, show_api_key

logger = structlog.get_logger(__name__)

# A revoked key works no longer than that. Revocation is promised within 60 s; one look-up in ten seconds costs nothing.
REMEMBERED_FOR = timedelta(seconds=10)
MAX_REMEMBERED = 10_000
USE_RECORDED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Program:
    """The bearer of a valid API key.

    Attributes:
        tenant_id: Whose data it may work with.
        key_id: Id of its key.
        key_prefix: The part of its key that may be shown.
        scopes: What it may do.
        expires_at: When its key ends, if it does.
    """

    tenant_id: UUID
    key_id: UUID
    key_prefix: str
    scopes: frozenset[str]
    expires_at: datetime | None


class ApiKeyVerifier:
    """Checks API keys, and remembers those that were right for a few seconds.

    What is wrong is not remembered: whoever tries keys must not be able to fill our memory.
    """

    def __init__(self, *, clock: Clock = utc_now, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Start with nothing remembered."""
        self._clock = clock
        self._monotonic = monotonic
        # By digest: the keys themselves are nowhere in memory for longer than their request.
        self._remembered: dict[bytes, tuple[Program, float]] = {}

    async def verify(self, session: AsyncSession, text: str) -> Program:
        """Return whose key this is, in whose scope the session works from then on.

        Args:
            session: Used only when the key is not remembered; committed when its use was recorded.
            text: The complete key.

        Raises:
            InvalidToken: There is no such key, or it has expired or was revoked.
        """
        try:
            prefix = parse_prefix(text)
        except ValueError as error:
            raise InvalidToken from error
        digest = hash_key(text)
        program = self._recall(digest)
        if program is None:
            program = await self._look_up(session, prefix, text)
            self._remember(digest, program)
        else:
            await enter_scope(session, Scope(program.tenant_id, program.key_id))
        return program

    def _recall(self, digest: bytes) -> Program | None:
        program, until = self._remembered.get(digest, (None, 0.0))
        if program is None or self._monotonic() >= until:
            return None
        if program.expires_at is not None and program.expires_at <= self._clock():
            return None
        return program

    def _remember(self, digest: bytes, program: Program) -> None:
        # The oldest goes first: a dict keeps the order in which its keys came.
        self._remembered.pop(digest, None)
        if len(self._remembered) >= MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[digest] = program, self._monotonic() + REMEMBERED_FOR.total_seconds()

    async def _look_up(self, session: AsyncSession, prefix: str, text: str) -> Program:
        now = self._clock()
        # Before the tenant is known, so without one: the prefix is unique among all keys.
        await show_api_key(session, prefix)
        key = await session.scalar(sa.select(ApiKey).where(ApiKey.prefix == prefix))
        reason = _refusal(key, text, now)
        if key is None or reason:
            logger.info("api_key.refused", prefix=prefix, reason=reason)
            raise InvalidToken
        await enter_scope(session, Scope(key.tenant_id, key.id))
        if key.last_used_at is None or key.last_used_at <= now - USE_RECORDED_EVERY:
            await _record_use(session, key, now)
        return Program(key.tenant_id, key.id, key.prefix, frozenset(key.scopes), key.expires_at)


def _refusal(key: ApiKey | None, text: str, now: datetime) -> str | None:
    """Return why the key does not open anything, None if it does."""
    if key is None:
        return "unknown prefix"
    if not key.has_text(text):
        return "wrong secret"
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.is_expired(now) else None


async def _record_use(session: AsyncSession, key: ApiKey, now: datetime) -> None:
    """Write down that the key is used, unless another process just did."""
    # Nobody waits for it: whoever holds the row is writing the same, or ending the key.
    row = (
        sa.select(ApiKey.id)
        .where(ApiKey.tenant_id == key.tenant_id, ApiKey.id == key.id)
        .where(sa.or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at <= now - USE_RECORDED_EVERY))
        .with_for_update(skip_locked=True, key_share=True)
        .scalar_subquery()
    )
    await session.execute(
        sa.update(ApiKey)
        .where(ApiKey.tenant_id == key.tenant_id, ApiKey.id == row)
        .values(last_used_at=now)
        .execution_options(synchronize_session=False)
    )
    # At once: it holds whatever becomes of the request, and no lock outlives it.
    await session.commit()

"""What is asked of the table of idempotency keys; always of the caller whose keys they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from api.callers import Caller
from api.idempotency.errors import IdempotencyKeyInUse
from api.outages import is_lock_timeout
from shared.models import IdempotencyKey

LIFETIME = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a caller was told."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def claim_key(caller: Caller, session: AsyncSession, key: str, fingerprint: bytes) -> bool:
    """Take the key for the request of this transaction; return False where it was answered before.

    Another request that has the key is waited for: as a rule it ends within milliseconds, and
    its answer is what the caller wants. If it fails, its claim is gone and this one takes its
    place. A key that has expired is taken as if it had never been used.

    Raises:
        IdempotencyKeyInUse: The other request did not end within the database's `lock_timeout`.
    """
    claim = insert(IdempotencyKey).values(
        tenant_id=caller.tenant_id,
        caller_id=caller.id,
        key=key,
        fingerprint=fingerprint,
        expires_at=sa.func.now() + LIFETIME,
    )
    claim = claim.on_conflict_do_update(
        index_elements=[IdempotencyKey.tenant_id, IdempotencyKey.caller_id, IdempotencyKey.key],
        set_={
            "fingerprint": claim.excluded.fingerprint,
            "status": None,
            "headers": None,
            "body": None,
            "created_at": sa.func.now(),
            "expires_at": claim.excluded.expires_at,
        },
        where=IdempotencyKey.expires_at <= sa.func.now(),
    )
    try:
        return await session.scalar(claim.returning(IdempotencyKey.key)) is not None
    except DBAPIError as error:
        if is_lock_timeout(error):
            raise IdempotencyKeyInUse from error
        raise


async def get_answer(caller: Caller, session: AsyncSession, key: str) -> sa.Row[Any]:
    """Return fingerprint, status, headers and body of the request that used the key."""
    query = sa.select(
        IdempotencyKey.fingerprint, IdempotencyKey.status, IdempotencyKey.headers, IdempotencyKey.body
    ).where(*_this(caller, key))
    return (await session.execute(query)).one()


async def record_answer(caller: Caller, session: AsyncSession, key: str, answer: Answer) -> None:
    """Complete the claim with what the caller is told."""
    statement = (
        sa.update(IdempotencyKey)
        .where(*_this(caller, key))
        .values(status=answer.status, headers=dict(answer.headers), body=answer.body)
    )
    await session.execute(statement, execution_options={"synchronize_session": False})


async def release_key(caller: Caller, session: AsyncSession, key: str) -> None:
    """Let the key be claimed again, as if it had never been used."""
    statement = sa.update(IdempotencyKey).where(*_this(caller, key)).values(expires_at=sa.func.now())
    await session.execute(statement, execution_options={"synchronize_session": False})


def _this(caller: Caller, key: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        IdempotencyKey.tenant_id == caller.tenant_id,
        IdempotencyKey.caller_id == caller.id,
        IdempotencyKey.key == key,
    )

"""Idempotency keys: the answers that repeated requests get again."""

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base

# Far above what any answer to a POST needs: the largest one repeats a request of at most this size.
MAX_BODY_BYTES = 256 * 1024


class IdempotencyKey(Base):
    """What a caller was answered to a request that carried a key of theirs.

    The row is inserted before the change and completed after it, in the same transaction: the
    primary key is the lock between two requests with one key, and whoever else sees the row
    sees an answer in it. There is no foreign key to users, because a caller may be a program.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], ondelete="CASCADE"),
        sa.CheckConstraint("octet_length(key) BETWEEN 1 AND 255", name="key_is_bounded"),
        sa.CheckConstraint(f"octet_length(body) <= {MAX_BODY_BYTES}", name="body_is_bounded"),
        sa.Index("ix_idempotency_keys_expires_at", "expires_at"),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    caller_id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    status: Mapped[int | None]
    headers: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    body: Mapped[bytes | None]
    created_at: Mapped[datetime] = mapped_column(server_default=sa.func.now())
    expires_at: Mapped[datetime]

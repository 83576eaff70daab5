"""The audit of API keys: who did what to which key, and when."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, TenantOwned, refers_to


class ApiKeyAction(StrEnum):
    """What was done to a key."""

    CREATED = "created"
    REVOKED = "revoked"


class ApiKeyAuditEntry(TenantOwned, Base):
    """One line of the audit. The database refuses to change or delete it, whoever asks."""

    __tablename__ = "api_key_audit_entries"
    __table_args__ = (
        refers_to("api_keys", "api_key_id"),
        sa.Index("ix_api_key_audit_entries_api_key", "tenant_id", "api_key_id", "id"),
    )

    api_key_id: Mapped[UUID]
    action: Mapped[ApiKeyAction]
    actor: Mapped[str]
    occurred_at: Mapped[datetime] = mapped_column(server_default=sa.func.now())

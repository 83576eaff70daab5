"""API keys: how programs say who they are."""

import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Iterable
from datetime import datetime
from typing import Self
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, WriteOnlyMapped, mapped_column, relationship

from shared.ids import new_id
from shared.models.api_key_audit_entry import ApiKeyAction, ApiKeyAuditEntry
from shared.models.base import Base, TenantOwned

SCHEME = "nsk_"
# 12 of 36 characters have 62 bits: enough to find one row by, and it may be shown.
PREFIX_LENGTH = 12
PREFIX_ALPHABET = string.ascii_lowercase + string.digits
SECRET_BYTES = 32

_KEY = re.compile(rf"{SCHEME}([a-z0-9]{{{PREFIX_LENGTH}}})_[A-Za-z0-9_-]{{43}}")


class ApiKey(TenantOwned, Base):
    """A key of one tenant's program: `nsk_`, a prefix to find it by, and a secret of 32 random bytes.

    Only a digest of it is stored. SHA-256 is right for that: slow hashes protect what people choose,
    and nobody can guess 256 random bits however fast the hash is.
    """

    __tablename__ = "api_keys"
    __table_args__ = (sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),)

    prefix: Mapped[str] = mapped_column(unique=True)
    key_hash: Mapped[bytes]
    name: Mapped[str]
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime]
    # To the minute or so; see api/api_keys.py.
    last_used_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    audit: WriteOnlyMapped[ApiKeyAuditEntry] = relationship(
        order_by=ApiKeyAuditEntry.id, cascade="save-update, merge", passive_deletes="all"
    )

    @classmethod
    def create(  # noqa: PLR0913 - a key is what it may do, for whom and how long
        cls, tenant_id: UUID, name: str, *, scopes: Iterable[str], expires_at: datetime | None, actor: str, at: datetime
    ) -> tuple[Self, str]:
        """Return a new key, with its creation in the audit, and its text, which exists nowhere else.

        Args:
            tenant_id: Whose users and data it is for.
            name: What people call it.
            scopes: What it may do.
            expires_at: Until when; None for ever.
            actor: Who creates it.
            at: The time now.
        """
        prefix = "".join(secrets.choice(PREFIX_ALPHABET) for _ in range(PREFIX_LENGTH))
        text = f"{SCHEME}{prefix}_{secrets.token_urlsafe(SECRET_BYTES)}"
        key = cls(
            tenant_id=tenant_id,
            id=new_id(),
            prefix=prefix,
            key_hash=hash_key(text),
            name=name,
            scopes=sorted(set(scopes)),
            created_at=at,
            expires_at=expires_at,
        )
        key._record(ApiKeyAction.CREATED, actor=actor, at=at)
        return key, text

    def revoke(self, *, actor: str, at: datetime) -> None:
        """End this key for good. Ending it twice is the same as once: the first word stands."""
        if self.revoked_at is None:
            self.revoked_at = at
            self._record(ApiKeyAction.REVOKED, actor=actor, at=at)

    def has_text(self, text: str) -> bool:
        """Tell whether this is the key of that text, in a time that does not depend on how much of it is right."""
        return hmac.compare_digest(self.key_hash, hash_key(text))

    def is_expired(self, at: datetime) -> bool:
        """Tell whether its time has passed."""
        return self.expires_at is not None and self.expires_at <= at

    def _record(self, action: ApiKeyAction, *, actor: str, at: datetime) -> None:
        entry = ApiKeyAuditEntry(tenant_id=self.tenant_id, id=new_id(), action=action, actor=actor, occurred_at=at)
        self.audit.add(entry)


def hash_key(text: str) -> bytes:
    """Return what is stored of a key."""
    return hashlib.sha256(text.encode()).digest()


def is_api_key(text: str) -> bool:
    """Tell whether a credential claims to be an API key."""
    return text.startswith(SCHEME)


def parse_prefix(text: str) -> str:
    """Return the prefix of a complete key.

    Raises:
        ValueError: It does not have the form of a key.
    """
    match = _KEY.fullmatch(text)
    if match is None:
        message = "should be nsk_, a prefix and a secret"
        raise ValueError(message)
    return match[1]

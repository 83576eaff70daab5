"""Contact points: where a user is reached."""

import hmac
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, TenantOwned, refers_to


class DisabledReason(StrEnum):
    """Why nothing is sent to a contact point."""

    OWNER = "owner"
    UNSUBSCRIBED = "unsubscribed"
    GONE = "gone"
    DEAD = "dead"


class ContactPoint(TenantOwned, Base):
    """The address of one user on one channel.

    The address and what its messages are signed with are encrypted (`shared.encryption`); the masked
    address is what answers and logs may show.
    """

    __tablename__ = "contact_points"
    __table_args__ = (
        refers_to("users", "user_id", ondelete="CASCADE"),
        sa.UniqueConstraint("tenant_id", "user_id", "channel"),
    )

    user_id: Mapped[UUID]
    channel: Mapped[str]
    encrypted_address: Mapped[str]
    masked_address: Mapped[str]
    # Names the server behind the address without telling it, so that what waits for a slow one can be told apart. None
    # where all addresses are behind one provider.
    endpoint: Mapped[str | None]
    # JSON, encrypted: what messages are signed with, the newest first, each with the time of its end.
    encrypted_secrets: Mapped[str | None]

    verified_at: Mapped[datetime | None]
    # The digest of the code that was sent to prove the address.
    code_hash: Mapped[bytes | None]
    code_sent_at: Mapped[datetime | None]
    code_expires_at: Mapped[datetime | None]
    code_try_count: Mapped[int] = mapped_column(default=0, server_default="0")

    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[DisabledReason | None]
    # Since when every attempt has failed; None after one that did not.
    failing_since: Mapped[datetime | None]
    last_attempt_at: Mapped[datetime | None]
    last_result: Mapped[str | None]

    created_at: Mapped[datetime] = mapped_column(server_default=sa.func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=sa.func.now(), onupdate=sa.func.now())

    def move(self, *, encrypted_address: str, masked_address: str, endpoint: str | None) -> None:
        """Reach the user at another address, of which nothing is known yet."""
        self.encrypted_address = encrypted_address
        self.masked_address = masked_address
        self.endpoint = endpoint
        self.verified_at = None
        self.last_attempt_at = None
        self.last_result = None
        self._forget_code()

    def enable(self) -> None:
        """Send here, as if nothing had ever failed."""
        self.disabled_at = None
        self.disabled_reason = None
        self.failing_since = None

    def disable(self, *, at: datetime) -> None:
        """Send nothing here, by the wish of the owner."""
        if self.disabled_reason is not DisabledReason.OWNER:
            self.disabled_at = at
            self.disabled_reason = DisabledReason.OWNER

    def expect_code(self, code: str, *, at: datetime, until: datetime) -> None:
        """Let this code, and none that was sent before, prove the address."""
        self.code_hash = self.hash_code(code)
        self.code_sent_at = at
        self.code_expires_at = until
        self.code_try_count = 0

    def verify(self, *, at: datetime) -> None:
        """Take the address for proved. A code proves it once."""
        self.verified_at = at
        self._forget_code()

    def hash_code(self, code: str) -> bytes:
        """Return the digest of a code, which is of no use for any other contact point.

        It does not hide the code from whoever reads the database, and tries a million of them. It keeps it out of logs
        and statistics for the minutes in which it is worth something.
        """
        return hmac.digest(self.id.bytes, code.encode(), "sha256")

    def _forget_code(self) -> None:
        self.code_hash = None
        self.code_sent_at = None
        self.code_expires_at = None
        self.code_try_count = 0

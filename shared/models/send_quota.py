"""Send quotas: how often a user had something sent to addresses of their own choice."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, refers_to


class SendPurpose(StrEnum):
    """What was sent because somebody asked for it there and then."""

    CODE = "code"
    TEST = "test"


class SendQuota(Base):
    """How often a user did that on one channel, in the window under way.

    It belongs to the user and not to the contact point: whoever enters one number after the other, or deletes each
    after its use, has only one quota. Messages cost, and those who get them may never have asked for them.
    """

    __tablename__ = "send_quotas"
    __table_args__ = (refers_to("users", "user_id", ondelete="CASCADE"),)

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    channel: Mapped[str] = mapped_column(primary_key=True)
    purpose: Mapped[SendPurpose] = mapped_column(primary_key=True)
    window_started_at: Mapped[datetime]
    sent_count: Mapped[int]
    sent_at: Mapped[datetime]

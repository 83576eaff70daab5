"""Users: the people who are told."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, TenantOwned


class User(TenantOwned, Base):
    """A person of one tenant, known to the identity provider by `external_id` (the token's `sub`)."""

    __tablename__ = "users"
    __table_args__ = (
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        sa.UniqueConstraint("tenant_id", "external_id"),
    )

    external_id: Mapped[str]
    name: Mapped[str]
    email: Mapped[str | None]
    locale: Mapped[str | None]
    time_zone: Mapped[str | None]
    # When the identity provider or a program last said what is in the four columns above; the latest word holds.
    profile_stated_at: Mapped[datetime | None]
    notify_self: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    created_at: Mapped[datetime] = mapped_column(server_default=sa.func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=sa.func.now(), onupdate=sa.func.now())

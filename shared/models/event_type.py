"""Event types: the catalogue of what can happen."""

from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base


class EventType(Base):
    """A kind of event. A new one is a row here and a text in `shared/templates`; no code, no migration.

    The catalogue is the service's own, the same for every tenant, hence without `tenant_id`.
    """

    __tablename__ = "event_types"

    name: Mapped[str] = mapped_column(primary_key=True)
    description: Mapped[str]
    default_channels: Mapped[list[str]]
    mandatory: Mapped[bool]

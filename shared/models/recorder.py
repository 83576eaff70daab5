"""The hook on the models: what an object recorded becomes `events` rows in the same transaction.

No caller mentions events or the queue. A model calls `self.record(...)` where its state
changes; the flush that writes the change writes the event, or neither is written.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import flag_dirty

from shared.ids import new_id
from shared.models.event import Event

if TYPE_CHECKING:
    from shared.models.test_scenario import TestScenario
    from shared.models.user import User

_WROTE_EVENTS = "wrote_events"


@dataclass(frozen=True, kw_only=True)
class DomainEvent:
    """Something that happened to a scenario; a subclass names its `event_type` and adds its facts."""

    event_type: ClassVar[str]

    scenario: "TestScenario"
    actor: "User"
    occurred_at: datetime

    def snapshot(self) -> dict[str, Any]:
        """Return the facts a message about this event needs, as plain JSON.

        Messages are rendered from this alone: they read the same when the scenario
        has been renamed or deleted since.
        """
        return {
            "scenario": {"id": str(self.scenario.id), "name": self.scenario.name},
            "actor": {"id": str(self.actor.id), "external_id": self.actor.external_id, "name": self.actor.name},
        }


class Recorder:
    """Mixin of the models to which things happen."""

    def record(self, domain_event: DomainEvent) -> None:
        """Remember the event until the next flush writes it."""
        self.__dict__.setdefault("_recorded", []).append(domain_event)
        # A flush looks only at changed objects: an event without a changed column must count as a change.
        flag_dirty(self)

    def take_recorded(self) -> list[DomainEvent]:
        """Return what was recorded since the last call."""
        recorded: list[DomainEvent] = self.__dict__.pop("_recorded", [])
        return recorded


@event.listens_for(Session, "before_flush")
def write_recorded_events(session: Session, _context: object, _instances: object) -> None:
    """Turn all that the session's objects recorded into `events` rows of this flush."""
    for domain_event in list(_recorded_in(session)):
        session.info[_WROTE_EVENTS] = True
        session.add(
            Event(
                id=new_id(),
                tenant_id=domain_event.scenario.tenant_id,
                event_type=domain_event.event_type,
                scenario=domain_event.scenario,
                actor_id=domain_event.actor.id,
                snapshot=domain_event.snapshot(),
                occurred_at=domain_event.occurred_at,
            )
        )


def note_written_events(session: AsyncSession) -> None:
    """Remember that this session put events into the outbox which no model recorded: some that were there before."""
    session.info[_WROTE_EVENTS] = True


def has_written_events(session: AsyncSession) -> bool:
    """Tell whether this session put events into the outbox."""
    return _WROTE_EVENTS in session.info


def _recorded_in(session: Session) -> Iterator[DomainEvent]:
    for instance in [*session.new, *session.dirty]:
        if isinstance(instance, Recorder):
            yield from instance.take_recorded()

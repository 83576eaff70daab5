"""Test scenarios: what people follow."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped
from typing_extensions import override

from shared.ids import new_id
from shared.models.base import Base, TenantOwned, refers_to
from shared.models.execution import Execution, Outcome
from shared.models.recorder import DomainEvent, Recorder
from shared.models.user import User


class TestScenario(Recorder, TenantOwned, Base):
    """A scenario that people follow. Deletion is soft, so that no inbox loses what it tells of."""

    __test__ = False  # for pytest, which takes a class of this name for a group of tests
    __tablename__ = "test_scenarios"
    __table_args__ = (
        refers_to("users", "created_by"),
        sa.Index("ix_test_scenarios_live", "tenant_id", "id", postgresql_where=sa.text("deleted_at IS NULL")),
        sa.Index("ix_test_scenarios_labels", "labels", postgresql_using="gin"),
    )

    name: Mapped[str]
    description: Mapped[str | None]
    labels: Mapped[list[str]]
    created_by: Mapped[UUID]
    created_at: Mapped[datetime]
    executed_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]

    @classmethod
    def create(
        cls, name: str, *, description: str | None = None, labels: list[str] | None = None, actor: User, at: datetime
    ) -> Self:
        """Return a new scenario of the actor's tenant, with its creation recorded."""
        scenario = cls(
            tenant_id=actor.tenant_id,
            id=new_id(),
            name=name,
            description=description,
            labels=labels or [],
            created_by=actor.id,
            created_at=at,
        )
        scenario.record(ScenarioCreated(scenario=scenario, actor=actor, occurred_at=at))
        return scenario

    def execute(
        self,
        outcome: Outcome | None = None,
        *,
        duration_ms: int | None = None,
        url: str | None = None,
        actor: User,
        at: datetime,
    ) -> Execution:
        """Record one run of this scenario and return it."""
        execution = Execution(
            scenario=self,
            id=new_id(),
            outcome=outcome,
            duration_ms=duration_ms,
            url=url,
            executed_by=actor.id,
            executed_at=at,
        )
        self.executed_at = at
        self.record(ScenarioExecuted(scenario=self, execution=execution, actor=actor, occurred_at=at))
        return execution

    def delete(self, *, actor: User, at: datetime) -> None:
        """Take this scenario out of the lists; its notifications stay readable."""
        self.deleted_at = at
        self.record(ScenarioDeleted(scenario=self, actor=actor, occurred_at=at))


@dataclass(frozen=True, kw_only=True)
class ScenarioCreated(DomainEvent):
    """A scenario came to be."""

    event_type: ClassVar[str] = "scenario.created"


@dataclass(frozen=True, kw_only=True)
class ScenarioExecuted(DomainEvent):
    """A scenario was run."""

    event_type: ClassVar[str] = "scenario.executed"

    execution: Execution

    @override
    def snapshot(self) -> dict[str, Any]:
        """Return the facts of the run beside those of the scenario."""
        execution = {
            "id": str(self.execution.id),
            "outcome": self.execution.outcome,
            "duration_ms": self.execution.duration_ms,
            "url": self.execution.url,
        }
        return {**super().snapshot(), "execution": execution}


@dataclass(frozen=True, kw_only=True)
class ScenarioDeleted(DomainEvent):
    """A scenario was deleted."""

    event_type: ClassVar[str] = "scenario.deleted"

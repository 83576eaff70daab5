"""Executions: the runs of a scenario."""

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, relationship

from shared.models.base import Base, TenantOwned, refers_to

if TYPE_CHECKING:
    from shared.models.test_scenario import TestScenario


class Outcome(StrEnum):
    """How a run went."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    SKIPPED = "skipped"


class Execution(TenantOwned, Base):
    """One run of a scenario; `outcome` is None when the caller did not say how it went."""

    __tablename__ = "executions"
    __table_args__ = (
        refers_to("test_scenarios", "scenario_id"),
        refers_to("users", "executed_by"),
        sa.Index("ix_executions_scenario", "tenant_id", "scenario_id", "id"),
    )

    scenario_id: Mapped[UUID]
    outcome: Mapped[Outcome | None]
    duration_ms: Mapped[int | None]
    url: Mapped[str | None]
    executed_by: Mapped[UUID]
    executed_at: Mapped[datetime]

    scenario: Mapped["TestScenario"] = relationship()

"""Scenarios and executions, as callers write and read them."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field, StrictInt, StringConstraints

from api.pagination import Page, PageQuery
from api.schemas import Input, Integral, Line, Output, Text, Unique
from shared.models import Outcome

# What an `integer` column holds: 24 days.
MAX_DURATION_MS = 2**31 - 1
HTTP_URL = r"^[hH][tT][tT][pP][sS]?://[^\s\x00-\x1f\x7f/?#]+[^\s\x00-\x1f\x7f]*$"

Label = Annotated[Line, Field(max_length=64)]


class ScenarioCreate(Input):
    """A new scenario."""

    name: Annotated[Line, Field(max_length=200)]
    description: Annotated[Text, Field(max_length=4000)] | None = None
    labels: Annotated[
        list[Label],
        Field(max_length=20, default_factory=list, json_schema_extra={"uniqueItems": True}),
        Unique,
    ]


class Scenario(Output):
    """A scenario that people follow."""

    id: UUID
    name: str
    description: str | None
    labels: list[str]
    created_by: UUID = Field(description="Id of the user who created it.")
    created_at: datetime
    executed_at: datetime | None = Field(description="When it was last executed.")
    deleted_at: datetime | None


class ScenarioPage(Page[Scenario]):
    """One page of scenarios, newest first."""


class ScenarioQuery(PageQuery):
    """Which scenarios to list."""

    deleted: Annotated[bool, Field(description="Whether to list the deleted ones instead of those that exist.")] = False
    label: Annotated[Label | None, Field(description="Only scenarios with this label.")] = None


class ExecutionCreate(Input):
    """A run of a scenario."""

    outcome: Annotated[Outcome | None, Field(description="How it went, if known.")] = None
    duration_ms: Annotated[StrictInt, Field(ge=0, le=MAX_DURATION_MS), Integral] | None = None
    url: Annotated[
        Annotated[str, StringConstraints(max_length=2000, pattern=HTTP_URL)] | None,
        Field(description="Where to read more, `http` or `https`."),
    ] = None


class Execution(Output):
    """One run of a scenario."""

    id: UUID
    scenario_id: UUID
    outcome: str | None = Field(description="How it went: `passed`, `failed`, `error`, `skipped`; more may come.")
    duration_ms: int | None
    url: str | None
    executed_by: UUID = Field(description="Id of the user who executed it.")
    executed_at: datetime


class ExecutionPage(Page[Execution]):
    """One page of executions, newest first."""


class ExecutionQuery(PageQuery):
    """Which executions to list."""

"""Dead letters, as programs read them and bring them back."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field, StrictBool, StrictInt

from api.pagination import Page, PageQuery
from api.schemas import Input, Integral, Output

MAX_REDRIVEN = 1000


class DeadLetter(Output):
    """An event that the worker gave up: not everybody was told of it."""

    event_id: UUID
    event_type: str
    scenario_id: UUID
    occurred_at: datetime
    dead_lettered_at: datetime
    reason: str | None = Field(description="What went wrong, in a developer's words.")


class DeadLetterPage(Page[DeadLetter]):
    """One page of the tenant's dead letters, newest event first."""


class DeadLetterQuery(PageQuery):
    """Which part of the dead letters to list."""


class RedriveRequest(Input):
    """How many dead letters to send round once more."""

    limit: Annotated[
        Annotated[StrictInt, Field(ge=1, le=MAX_REDRIVEN), Integral], Field(description="How many at most.")
    ] = 100
    # Like that of deliveries, which is why it is the same.
    dry_run: Annotated[StrictBool, Field(description="Only tell which ones; `false` sends them round.")] = True


class Redrive(Output):
    """What was sent round once more, or would be."""

    dry_run: bool
    count: int
    has_more: bool = Field(description="Whether there are others beyond the limit.")
    event_ids: list[UUID] = Field(description="Which ones, the oldest first.")

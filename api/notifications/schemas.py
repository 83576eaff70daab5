"""Notifications, as callers read and mark them."""

from datetime import datetime
from typing import Annotated, Literal, TypeAlias
from uuid import UUID

from pydantic import Field

from api.pagination import Page, PageQuery
from api.schemas import Input, Line, Output

Status: TypeAlias = Literal["all", "unread", "read", "archived"]

EventTypeFilter = Annotated[Line | None, Field(max_length=100, description="Only this event type.")]
ScenarioFilter = Annotated[UUID | None, Field(description="Only this scenario.")]
UpTo = Annotated[
    UUID, Field(description="The newest notification the user has seen; those that came later stay as they are.")
]


class NotificationScenario(Output):
    """What a notification is about, by the name it had when it happened."""

    id: UUID
    name: str
    deleted: bool = Field(description="Whether it was deleted since.")


class Actor(Output):
    """Who did it, by the name they had when it happened."""

    id: UUID
    external_id: str
    name: str


class Notification(Output):
    """An event, told to me."""

    id: UUID
    event_type: str
    title: str = Field(description="One line of plain text.")
    body: str = Field(description="A sentence more, in plain text.")
    scenario: NotificationScenario
    actor: Actor
    reason: str = Field(description="Why I got it: `subscribed`, `following`, `mandatory`; more may come.")
    occurred_at: datetime = Field(description="When it happened.")
    created_at: datetime = Field(description="When I was told.")
    seen_at: datetime | None
    read_at: datetime | None
    archived_at: datetime | None


class Counts(Output):
    """How much there is to read. Archived notifications do not count."""

    unread: int
    unseen: int


class NotificationPage(Page[Notification]):
    """One page of my inbox, newest first, with the counts of the whole inbox."""

    counts: Counts


class NotificationState(Output):
    """A notification after a change, with the counts after it."""

    notification: Notification
    counts: Counts


class BulkUpdate(Output):
    """How many notifications a change reached, with the counts after it."""

    updated: int
    counts: Counts


class NotificationQuery(PageQuery):
    """Which notifications to list."""

    status: Annotated[Status, Field(description="`all`, `unread` and `read` leave archived ones out.")] = "all"
    event_type: EventTypeFilter = None
    scenario_id: ScenarioFilter = None


class MarkAllRead(Input):
    """Which notifications to mark as read."""

    up_to: UpTo
    event_type: EventTypeFilter = None
    scenario_id: ScenarioFilter = None


class MarkAllSeen(Input):
    """Which notifications to mark as seen."""

    up_to: UpTo

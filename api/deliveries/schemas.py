"""Deliveries, as people and programs read them and programs try them again."""

from datetime import datetime
from typing import Annotated, Literal, TypeAlias
from uuid import UUID

from pydantic import Field, StrictBool, StrictInt

from api.pagination import Page, PageQuery
from api.profile import MAX_EXTERNAL_ID_LENGTH
from api.schemas import Input, Integral, Line, Output

MAX_RETRIED = 1000

Status: TypeAlias = Literal["pending", "delivered", "failed", "skipped", "parked"]
RetryableStatus: TypeAlias = Literal["failed", "parked"]

ChannelFilter = Annotated[Line | None, Field(max_length=100, description="Only this channel.")]
ReasonFilter = Annotated[Line | None, Field(max_length=100, description="Only those that ended for this reason.")]
UserFilter = Annotated[
    Line | None, Field(max_length=MAX_EXTERNAL_ID_LENGTH, description="Only those to this user, by external id.")
]


class Attempt(Output):
    """One try of a delivery."""

    number: int
    started_at: datetime
    ended_at: datetime | None = Field(description="Null while it is under way, or when its worker was lost.")
    result: str | None = Field(
        description="What came of it: `delivered`, `temporary_failure`, `rate_limited`, `permanent_failure`, "
        "`outcome_unknown`; more may come."
    )
    detail: str | None = Field(description="Why, in the provider's words, without the address.")
    provider: str | None = Field(description="Who took the message.")


class _DeliveryState(Output):
    """How far a message is on one of its ways."""

    id: UUID
    channel: str
    about: str | None = Field(
        description="Null for the notification itself; else this is the word to its reader that their contact point of "
        "that channel was disabled."
    )
    status: str = Field(
        description="`pending`, `delivered`, `failed`, `skipped` (nothing was sent) or `parked` (it may have arrived); "
        "more may come."
    )
    reason: str | None = Field(description="Why it ended; null while it is pending.")
    created_at: datetime
    next_attempt_at: datetime | None = Field(description="When it is tried next, at the earliest; null when it ended.")
    expires_at: datetime = Field(description="From when on it is not tried any more.")
    ended_at: datetime | None


class Delivery(_DeliveryState):
    """The way of a notification to one of my contact points."""

    attempts: list[Attempt] = Field(description="Every try, the first one first.")


class Deliveries(Output):
    """Where else a notification went: all of its deliveries, by channel."""

    data: list[Delivery]


class LoggedDelivery(_DeliveryState):
    """The way of a notification to one contact point of a user."""

    user: str = Field(description="External id of the user.")
    notification_id: UUID
    attempt_count: int


class LoggedDeliveryDetails(LoggedDelivery):
    """The way of a notification to one contact point of a user, with every try."""

    attempts: list[Attempt] = Field(description="Every try, the first one first.")


class LoggedDeliveryPage(Page[LoggedDelivery]):
    """One page of the tenant's delivery log, newest first.

    A page looks at a bounded part of the log: with filters it may have fewer than `limit`, or none, while `has_more`
    says that there is more to look at.
    """


class DeliveryQuery(PageQuery):
    """Which deliveries to list."""

    status: Annotated[Status | None, Field(description="Only those that are so far.")] = None
    channel: ChannelFilter = None
    reason: ReasonFilter = None
    user: UserFilter = None


class DeliveryRetryRequest(Input):
    """Which deliveries to try again: those that failed or were parked, and fit all filters."""

    status: Annotated[RetryableStatus | None, Field(description="Only those that `failed`, or were `parked`.")] = None
    channel: ChannelFilter = None
    reason: ReasonFilter = None
    user: UserFilter = None
    limit: Annotated[
        Annotated[StrictInt, Field(ge=1, le=MAX_RETRIED), Integral], Field(description="How many at most.")
    ] = 100
    # Whoever forgets it sends nothing: a message that went out cannot be called back.
    dry_run: Annotated[StrictBool, Field(description="Only tell which ones; `false` tries them again.")] = True


class DeliveryRetry(Output):
    """What was tried again, or would be."""

    dry_run: bool
    count: int
    has_more: bool = Field(description="Whether others fit the filters as well, beyond the limit.")
    ids: list[UUID] = Field(description="Which ones, the oldest first.")

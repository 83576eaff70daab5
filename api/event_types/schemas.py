"""Event types, as callers read them."""

from pydantic import Field

from api.pagination import Page, PageQuery
from api.schemas import Output


class EventType(Output):
    """A kind of event."""

    name: str
    description: str
    default_channels: list[str] = Field(description="Where its notifications go unless a subscription says otherwise.")
    mandatory: bool = Field(description="Whether it reaches every user of the tenant, subscribed or not.")


class EventTypePage(Page[EventType]):
    """One page of event types, by name."""


class EventTypeQuery(PageQuery):
    """Which event types to list."""

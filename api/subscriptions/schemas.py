"""Subscriptions, as callers write and read them."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from typing_extensions import TypeAliasType

from api.pagination import PageQuery
from api.schemas import Input, Output
from shared.channel import CHANNELS


def _refuse_unknown(channel: str) -> str:
    if channel not in CHANNELS:
        code, message = "unknown_channel", "Channel should be one of: {channels}"
        raise PydanticCustomError(code, message, {"channels": ", ".join(CHANNELS)})
    return channel


# Aliases with names, so that generated clients have names for them as well.
SubscriptionLevel = TypeAliasType("SubscriptionLevel", Literal["all", "muted"])
Channel = TypeAliasType(
    "Channel",
    Annotated[
        str,
        Field(description="Where notifications can go.", json_schema_extra={"enum": list(CHANNELS)}),
        AfterValidator(_refuse_unknown),
    ],
)


class EventTypeSubscriptionUpdate(Input):
    """How to be told of an event type."""

    channels: Annotated[
        Annotated[list[Channel], Field(max_length=20)] | None,
        Field(
            description="Where notifications go beside `in_app`; the event type's default when left out. An "
            "installation need not offer all of these."
        ),
    ] = None


class EventTypeSubscription(Output):
    """What I hear of one event type."""

    event_type: str
    enabled: bool = Field(description="Whether I am told of this event type, for all scenarios I have not muted.")
    channels: list[str] = Field(description="Where its notifications go; empty when it is not enabled.")
    mandatory: bool = Field(description="Whether it is enabled for everybody and cannot be disabled.")


class ScenarioSubscriptionUpdate(Input):
    """What to be told of one scenario."""

    level: Annotated[SubscriptionLevel, Field(description="`all` follows the scenario, `muted` silences it.")]


class ScenarioSubscription(Output):
    """What I hear of one scenario."""

    scenario_id: UUID
    scenario_name: str
    level: str = Field(description="`all` if I follow it, `muted` if I silenced it; more may come.")


class SubscriptionQuery(PageQuery):
    """Which part of the scenarios to list."""


class Subscriptions(Output):
    """What I hear of.

    The event types are always all there; the scenarios are a list with pages, like any other.
    """

    event_types: list[EventTypeSubscription]
    scenarios: list[ScenarioSubscription]
    next_cursor: str | None = Field(description="Ask for more scenarios with it; null on the last page.")
    has_more: bool

"""Contact points, as callers write and read them."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, StrictBool, StringConstraints

from api.schemas import Input, Line, Output
from shared.addresses import MAX_LENGTH

CODE_LENGTH = 6


class ContactPointUpdate(Input):
    """Where to reach me."""

    address: Annotated[
        Line,
        Field(
            max_length=MAX_LENGTH,
            description="An e-mail address, a phone number with its country, a URL, or the id of a Slack member or "
            "channel; as the channel needs it.",
        ),
    ]
    enabled: Annotated[StrictBool, Field(description="Whether anything is sent there.")] = True


class ContactPoint(Output):
    """Where I am reached on one channel."""

    channel: str
    address: str = Field(description="The address, so much of it as may be shown.")
    verified: bool = Field(description="Whether the address is proved to be mine, or needs no proof.")
    enabled: bool = Field(description="Whether anything is sent there.")
    disabled_reason: str | None = Field(
        description="`owner`: by my wish; `unsubscribed`: by a link in a message; `gone`: the address said that it is "
        "at an end; `dead`: nothing but failures for days; more may come. PUT the address again to enable it."
    )
    last_result: str | None = Field(
        description="What came of the last message: `delivered`, `temporary_failure`, `rate_limited`, "
        "`permanent_failure`, `outcome_unknown`; more may come."
    )
    last_attempt_at: datetime | None
    secret: str | None = Field(
        description="What messages to a webhook are signed with, by the Standard Webhooks convention. It is there only "
        "when it is new, and never shown again."
    )


class ContactPoints(Output):
    """Where I am reached. A channel has one address at most, so this list has no pages."""

    data: list[ContactPoint]


class Verification(Output):
    """A code is on its way."""

    channel: str
    address: str = Field(description="Where it was sent, so much of it as may be shown.")
    expires_at: datetime = Field(description="Until when it proves the address.")
    next_code_at: datetime = Field(description="When another one can be asked for.")


class VerificationAttempt(Input):
    """The code that arrived."""

    code: Annotated[str, StringConstraints(pattern=rf"^[0-9]{{{CODE_LENGTH}}}$"), Field(description="Six digits.")]


class TestResult(Output):
    """What came of a test message."""

    result: str = Field(
        description="`delivered`: the provider took it; `temporary_failure`, `rate_limited`: it did not, and later "
        "may; `permanent_failure`: it never will; `outcome_unknown`: no answer came in time; more may come."
    )
    detail: str | None = Field(description="Why it failed, in the words of the provider.")
    provider: str = Field(description="Who carried it, or should have.")

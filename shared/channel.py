"""The port of delivery: what a channel is, what it is given, and how it can fail.

An adapter (a module of `shared/channels`) sends one message and answers with the provider's receipt. What goes wrong it
says as one of four facts, and everything else, such as when to try again, is decided by whoever asked:

- `TemporaryFailure`: nothing was taken, and later may work.
- `RateLimited`: the same, because we ask too often; it says nothing against the address.
- `PermanentFailure`: it never will be taken.
- `OutcomeUnknown`: all of it was written and no answer came. It may have been taken.

Anything else that an adapter raises is a bug of ours.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

IN_APP = "in_app"
EMAIL = "email"
SLACK = "slack"
SMS = "sms"
WEBHOOK = "webhook"
APPRISE = "apprise"

# In the order in which answers list them. The inbox is no delivery: it is the notification itself.
CHANNELS = (IN_APP, EMAIL, SLACK, SMS, WEBHOOK, APPRISE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a message says, already escaped for its channel.

    Attributes:
        subject: One line without line breaks.
        text: The whole message as plain text; for SMS at most 160 characters.
        html: The message as a page; for e-mail only.
        payload: The message as JSON: the body of a webhook, or of a call to Slack.
    """

    subject: str
    text: str
    html: str | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundMessage:
    """A message to one address, the same at every attempt.

    Attributes:
        id: Names the delivery. Receivers can recognise a repetition by it.
        address: Where it goes, as `shared.addresses` parsed it.
        content: What it says.
        created_at: When the delivery was created; the date of the message, whenever it gets through.
        secrets: What it is signed with, for a channel that signs: the newest first, older ones while they are valid.
        unsubscribe_url: Where one click ends further messages of this kind; None when nothing ends them.
    """

    id: UUID
    address: str
    content: Content
    created_at: datetime
    secrets: tuple[str, ...] = ()
    unsubscribe_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The word of the provider that it took the message.

    Attributes:
        provider: Who took it: `smtp`, `ses`, `twilio`.
        provider_id: By which name the provider knows it, where it gave one.
    """

    provider: str
    provider_id: str | None = None


class DeliveryFailed(Exception):
    """The message was not certainly taken. The text says why, in one line, without the address or a secret."""


class TemporaryFailure(DeliveryFailed):
    """It was not taken, and later may work."""

    def __init__(self, detail: str, *, retry_after: timedelta | None = None) -> None:
        """Say why, and, where the provider said so, how long to wait at least."""
        super().__init__(detail)
        self.retry_after = retry_after


class RateLimited(TemporaryFailure):
    """It was not taken because we ask too often. That is no failed attempt."""


class PermanentFailure(DeliveryFailed):
    """It was not taken and never will be."""

    def __init__(self, detail: str, *, address_gone: bool = False) -> None:
        """Say why, and whether the address as such is at an end, so that nothing should be sent there again."""
        super().__init__(detail)
        self.address_gone = address_gone


class OutcomeUnknown(DeliveryFailed):
    """It was handed over and no answer came: it may have been taken."""


class Channel(ABC):
    """A way to reach people, by one provider.

    Attributes:
        name: Which of `CHANNELS` it serves.
        provider: Who carries its messages.
        repeats_unknown: Whether a message whose outcome is unknown is sent again. Where receivers can recognise a
            repetition, or would hardly mind one, it is; where each one costs and annoys, it is not.
    """

    name: str
    provider: str
    repeats_unknown: bool = True

    @abstractmethod
    async def send(self, message: OutboundMessage) -> Receipt:
        """Send a message, within the deadline that the adapter's settings give.

        Raises:
            TemporaryFailure: It was not taken, and later may work.
            PermanentFailure: It never will be.
            OutcomeUnknown: It may have been taken.
        """

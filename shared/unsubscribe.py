"""Unsubscribing by one click (RFC 8058): the link that a mail carries, and what it stands for.

The link is all that its bearer shows, so it can do one thing only, and nobody can make or change one.
"""

import json
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from pydantic import Field
from pydantic_settings import BaseSettings

from shared.encryption import CannotDecrypt, Cipher

PATH = "/v1/unsubscribe/"
_PURPOSE = "unsubscribe"


class PublicSettings(BaseSettings):
    """How the world reaches this installation."""

    public_url: str = Field(
        default="http://127.0.0.1:8000",
        pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$",
        description="Where people reach the api, for the links in messages.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsubscription:
    """The wish of a user to hear no more of one event type on one channel."""

    tenant_id: UUID
    user_id: UUID
    event_type: str
    channel: str

    def to_url(self, public: PublicSettings, cipher: Cipher) -> str:
        """Return the link that stands for it. It has no end: mail is read years later."""
        wish = json.dumps([_PURPOSE, str(self.user_id), self.event_type, self.channel])
        return f"{public.public_url.rstrip('/')}{PATH}{cipher.encrypt(self.tenant_id, wish)}"

    @classmethod
    def parse_token(cls, token: str, cipher: Cipher) -> Self:
        """Return what the last part of the link stands for.

        Raises:
            ValueError: It is none of ours.
        """
        message = "no link to unsubscribe"
        try:
            tenant_id, wish = cipher.decrypt_token(token)
        except CannotDecrypt as error:
            raise ValueError(message) from error
        # The cipher encrypts other things too: an address, copied into the link, is no list of these four.
        match _parse_json(wish):
            case [purpose, str(user_id), str(event_type), str(channel)] if purpose == _PURPOSE:
                return cls(tenant_id=tenant_id, user_id=UUID(user_id), event_type=event_type, channel=channel)
        raise ValueError(message)


def _parse_json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None

"""From a claim to the message that is sent: opens the address and the secrets, and has the text rendered."""

from functools import lru_cache
from typing import TypeAlias
from uuid import UUID

from shared.channel import EMAIL, Content, OutboundMessage
from shared.clock import Clock, utc_now
from shared.encryption import Cipher
from shared.messages import Occurrence, Reader, render_contact_point_disabled, render_content
from shared.signing import list_valid_secrets
from shared.unsubscribe import PublicSettings, Unsubscription
from worker.deliveries.repository import Claim

# Addresses are used again and again, and one event is told to thousands in the same words.
_OPENED_COUNT = 10_000
_CONTENT_COUNT = 1000

_ContentKey: TypeAlias = tuple[UUID, str | None, str | None]


class Composer:
    """Composes the messages of one channel."""

    def __init__(self, channel: str, cipher: Cipher, public: PublicSettings, *, clock: Clock = utc_now) -> None:
        """Prepare to compose.

        Args:
            channel: Where the messages will be read.
            cipher: What addresses and secrets are encrypted with.
            public: Where links lead.
            clock: Tells which secrets still hold.
        """
        self._channel = channel
        self._cipher = cipher
        self._public = public
        self._clock = clock
        self._open = lru_cache(_OPENED_COUNT)(cipher.decrypt)
        self._contents: dict[_ContentKey, Content] = {}

    def compose(self, claim: Claim) -> OutboundMessage:
        """Return the message of a delivery, the same at every attempt as long as its reader stays the same.

        Raises:
            Exception: Our fault: a key is missing, or a text cannot be rendered.
        """
        unsubscribe_url = self._find_unsubscribe_url(claim)
        return OutboundMessage(
            id=claim.id,
            address=self._open(claim.tenant_id, claim.encrypted_address),
            content=self._render(claim, unsubscribe_url),
            created_at=claim.created_at,
            secrets=tuple(self._list_secrets(claim)),
            unsubscribe_url=unsubscribe_url,
        )

    def _find_unsubscribe_url(self, claim: Claim) -> str | None:
        """Return where one click ends mails of this kind; None for other channels, and for what everybody is told."""
        if self._channel != EMAIL or claim.mandatory or claim.about is not None:
            return None
        wish = Unsubscription(
            tenant_id=claim.tenant_id, user_id=claim.user_id, event_type=claim.event_type, channel=self._channel
        )
        return wish.to_url(self._public, self._cipher)

    def _render(self, claim: Claim, unsubscribe_url: str | None) -> Content:
        reader = Reader(locale=claim.locale, time_zone=claim.time_zone)
        if claim.about is not None:
            return render_contact_point_disabled(
                self._channel, reader, about=claim.about, masked_address=claim.about_address or "…"
            )
        occurrence = Occurrence(
            event_id=claim.event_id,
            event_type=claim.event_type,
            occurred_at=claim.occurred_at,
            snapshot=claim.snapshot,
        )
        if unsubscribe_url is not None:
            return render_content(self._channel, occurrence, reader, unsubscribe_url=unsubscribe_url)
        key = (claim.event_id, claim.locale, claim.time_zone)
        if (content := self._contents.get(key)) is None:
            content = render_content(self._channel, occurrence, reader)
            if len(self._contents) >= _CONTENT_COUNT:
                self._contents.clear()
            self._contents[key] = content
        return content

    def _list_secrets(self, claim: Claim) -> list[str]:
        """Return what the message is signed with."""
        if claim.encrypted_secrets is None:
            return []
        return list_valid_secrets(self._open(claim.tenant_id, claim.encrypted_secrets), at=self._clock())

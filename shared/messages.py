"""What is sent, in the form of its channel: a mail with a page, Slack blocks, one SMS, the JSON of a webhook.

All texts come from `shared.texts`; here they are put into their form, and escaped for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from babel.dates import format_datetime

from shared.channel import EMAIL, SLACK, SMS, Content
from shared.sms import fit_sms
from shared.texts import Text, find_locale, render_layout, render_message, render_text

# Slack's limit for the text of one block is 3,000 characters; escaping can make five of one.
MAX_SLACK_TEXT_LENGTH = 500
_SLACK_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Whom a message is for, as far as its words depend on it.

    Attributes:
        locale: Language tag; None where it is not known.
        time_zone: Name of the IANA database; None where it is not known.
    """

    locale: str | None = None
    time_zone: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """What happened, as a message tells it: an event, from its row alone."""

    event_id: UUID
    event_type: str
    occurred_at: datetime
    snapshot: Mapping[str, Any]


def render_content(
    channel: str, occurrence: Occurrence, reader: Reader, *, unsubscribe_url: str | None = None
) -> Content:
    """Return the message that tells a reader what happened.

    Args:
        channel: Where it will be read.
        occurrence: What happened.
        reader: For whom.
        unsubscribe_url: Where further messages of this kind can be ended; shown at the end of a mail.
    """
    text = render_text(occurrence.event_type, occurrence.snapshot, locale=reader.locale, channel=channel)
    return _build(
        channel,
        text,
        reader,
        at=occurrence.occurred_at,
        link=_link(occurrence.snapshot),
        unsubscribe_url=unsubscribe_url,
        payload={
            "type": occurrence.event_type,
            "timestamp": _rfc3339(occurrence.occurred_at),
            "data": {
                "notification_id": str(occurrence.event_id),
                "title": text.title,
                "body": text.body,
                **occurrence.snapshot,
            },
        },
    )


def render_code(channel: str, code: str, reader: Reader, *, minutes: int) -> Content:
    """Return the message with the code that proves an address, and for how many minutes it does."""
    return _build_plain(channel, "code", {"code": code, "minutes": minutes}, reader)


def render_test(channel: str, reader: Reader) -> Content:
    """Return the message by which people see that a channel works."""
    return _build_plain(channel, "test", {}, reader)


def render_contact_point_disabled(channel: str, reader: Reader, *, about: str, masked_address: str) -> Content:
    """Return the word to the owner that nothing is sent to one of their other addresses any more.

    Args:
        channel: Where this message will be read.
        reader: The owner.
        about: The channel that is at its end.
        masked_address: The address there, as it may be shown.
    """
    facts = {"channel": about, "address": masked_address}
    return _build_plain(channel, "contact_point_disabled", facts, reader)


def _build_plain(channel: str, name: str, facts: Mapping[str, Any], reader: Reader) -> Content:
    text = render_message(name, facts, locale=reader.locale)
    return _build(channel, text, reader, payload={"type": f"message.{name}", "data": {"title": text.title, **facts}})


def _build(  # noqa: PLR0913 - what the forms of all channels are made of
    channel: str,
    text: Text,
    reader: Reader,
    *,
    payload: Mapping[str, Any],
    at: datetime | None = None,
    link: str | None = None,
    unsubscribe_url: str | None = None,
) -> Content:
    subject = " ".join(text.title.split())
    if channel == EMAIL:
        facts = {
            "title": text.title,
            "body": text.body,
            "time": _show_time(at, reader),
            "link": link,
            "unsubscribe_url": unsubscribe_url,
        }
        mail, page = (render_layout(name, facts, locale=reader.locale) for name in ("email.txt", "email.html"))
        return Content(subject=subject, text=mail, html=page)
    if channel == SMS:
        return Content(subject=subject, text=fit_sms(f"{text.title}. {text.body}"))
    if channel == SLACK:
        payload = _slack_payload(text, _show_time(at, reader), link)
    return Content(subject=subject, text=f"{text.title}\n{text.body}", payload=payload)


def _slack_payload(text: Text, time: str | None, link: str | None) -> dict[str, Any]:
    """Return the body of a call to Slack. Nothing in it can mention anybody: `<!channel>` reads as it was written."""
    title, body = (_escape_slack(part) for part in (text.title, text.body))
    blocks: list[dict[str, Any]] = [
        {"type": "section", "text": {"type": "mrkdwn", "text": f"*{title}*\n{body}", "verbatim": True}}
    ]
    if context := [_escape_slack(part) for part in (time, link) if part]:
        blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": " · ".join(context)}]})
    # The text is what a notification on the phone shows. Slack makes links and mentions of nothing it is not asked to.
    return {"text": title, "blocks": blocks, "link_names": False, "unfurl_links": False}


def _escape_slack(text: str) -> str:
    if len(text) > MAX_SLACK_TEXT_LENGTH:
        text = text[: MAX_SLACK_TEXT_LENGTH - 1] + "…"
    return text.translate(_SLACK_ESCAPES)


def _link(snapshot: Mapping[str, Any]) -> str | None:
    """Return where to see more: the page of the execution, if it is one that a browser may open."""
    url = (snapshot.get("execution") or {}).get("url")
    return url if isinstance(url, str) and url.startswith(("https://", "http://")) else None


def _show_time(at: datetime | None, reader: Reader) -> str | None:
    if at is None:
        return None
    zone = ZoneInfo(reader.time_zone or "UTC")
    return format_datetime(at, "long", tzinfo=zone, locale=find_locale(reader.locale))


def _rfc3339(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")

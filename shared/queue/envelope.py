"""What a message says: a CloudEvents 1.0 event in JSON that carries identifiers, never personal data."""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn
from uuid import UUID

SPEC_VERSION = "1.0"
SOURCE = "/scenario-notifications"

# Ours have about 400 characters. Whatever is much longer is not ours, and not worth parsing.
MAX_LENGTH = 16_384

_TYPE = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_SOURCE = re.compile(r"[!-~]{1,255}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
# Version 00 of W3C Trace Context; a later version may append fields, all zeros mean "no trace".
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.{0,64})?")


class MalformedEnvelope(ValueError):
    """A message is not an envelope of ours, and never will be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Says that something happened; the facts are in the database, under the event's id.

    Attributes:
        id: The event's id.
        tenant_id: Whose event it is.
        type: Event type, such as `scenario.executed`.
        subject: Id of the scenario it happened to.
        occurred_at: When it happened, aware.
        source: Who says so.
        traceparent: W3C trace context of the request that caused it.
    """

    id: UUID
    tenant_id: UUID
    type: str
    subject: UUID
    occurred_at: datetime
    source: str = SOURCE
    traceparent: str | None = None

    def to_json(self) -> str:
        """Return the envelope in the JSON format of CloudEvents."""
        attributes = {
            "specversion": SPEC_VERSION,
            "id": str(self.id),
            "type": self.type,
            "source": self.source,
            "subject": str(self.subject),
            "time": self.occurred_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "tenantid": str(self.tenant_id),
        }
        if self.traceparent:
            attributes["traceparent"] = self.traceparent
        return json.dumps(attributes, separators=(",", ":"))


def parse_envelope(body: str) -> Envelope:
    """Return the envelope in a message.

    Attributes unknown to us are ignored, as CloudEvents asks. So is a broken
    `traceparent`: a trace that ends early is no reason to lose a notification.

    Raises:
        MalformedEnvelope: The message is not one of ours. The text names the
            attribute but not its value, which may be anything.
    """
    attributes = _parse_object(body)
    if attributes.get("specversion") != SPEC_VERSION:
        message = f"`specversion` is not {SPEC_VERSION}."
        raise MalformedEnvelope(message)
    return Envelope(
        id=_parse_uuid(attributes, "id"),
        tenant_id=_parse_uuid(attributes, "tenantid"),
        type=_parse_text(attributes, "type", _TYPE),
        subject=_parse_uuid(attributes, "subject"),
        occurred_at=_parse_time(attributes, "time"),
        source=_parse_text(attributes, "source", _SOURCE),
        traceparent=_find_traceparent(attributes),
    )


def _parse_object(body: str) -> dict[str, Any]:
    if len(body) > MAX_LENGTH:
        message = f"The message has {len(body)} characters, an envelope at most {MAX_LENGTH}."
        raise MalformedEnvelope(message)
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        message = "The message is not JSON."
        raise MalformedEnvelope(message) from error
    if not isinstance(value, dict):
        message = "The message is not a JSON object."
        raise MalformedEnvelope(message)
    return value


def _refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which Python takes for JSON and nobody else does."""
    message = f"{name} is not JSON."
    raise ValueError(message)


def _parse_text(attributes: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = attributes.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        message = f"`{name}` is missing or malformed."
        raise MalformedEnvelope(message)
    return value


def _parse_uuid(attributes: dict[str, Any], name: str) -> UUID:
    """Return a UUID in its one canonical spelling; `UUID()` alone would take braces, URNs and foreign digits."""
    value = attributes.get(name)
    try:
        parsed = UUID(value)
    except (AttributeError, TypeError, ValueError) as error:
        message = f"`{name}` is missing or not a UUID."
        raise MalformedEnvelope(message) from error
    if str(parsed) != value:
        message = f"`{name}` is not a UUID in lower case with hyphens."
        raise MalformedEnvelope(message)
    return parsed


def _parse_time(attributes: dict[str, Any], name: str) -> datetime:
    value = _parse_text(attributes, name, _TIME)
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (OverflowError, ValueError) as error:
        message = f"`{name}` is not an instant."
        raise MalformedEnvelope(message) from error


def _find_traceparent(attributes: dict[str, Any]) -> str | None:
    value = attributes.get("traceparent")
    return value if isinstance(value, str) and _TRACEPARENT.fullmatch(value) else None

"""What a notification says: texts per event type and locale, rendered from the event's snapshot.

A text is a template in `shared/templates/<locale>/<event type>/<channel>.j2`; a new event type
brings its folder, and until it does the `default` folder speaks for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, UndefinedError

TEMPLATES = Path(__file__).parent / "templates"
LOCALE = "en"
DEFAULT = "default"
SECONDS_PER_MINUTE = 60


@dataclass(frozen=True, slots=True)
class InboxText:
    """One line that says what happened, and a sentence more. Plain text: whoever shows it escapes it."""

    title: str
    body: str


def render_inbox_text(event_type: str, snapshot: Mapping[str, Any]) -> InboxText:
    """Return the text of a notification in the inbox.

    Args:
        event_type: Name of the event's type; one without a text of its own gets the default text.
        snapshot: The facts stored with the event (see `DomainEvent.snapshot`).
    """
    facts = {"event_type": event_type, **snapshot}
    try:
        return _render(_template(event_type), facts)
    except UndefinedError:
        # A text may ask for a fact that older events do not have. One of them must not make the whole list unreadable.
        return _render(_template(DEFAULT), facts)


def _render(template: Template, facts: Mapping[str, Any]) -> InboxText:
    context = template.new_context(dict(facts))
    title, body = ("".join(template.blocks[block](context)).strip() for block in ("title", "body"))
    return InboxText(title=title, body=body)


@cache
def _template(event_type: str) -> Template:
    return _environment().select_template([f"{LOCALE}/{kind}/in_app.j2" for kind in (event_type, DEFAULT)])


@cache
def _environment() -> Environment:
    # Inbox texts are plain: escaping belongs to whoever puts them into a page.
    environment = Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, autoescape=False)  # noqa: S701
    environment.filters["duration"] = _duration
    return environment


def _duration(milliseconds: int) -> str:
    seconds = round(milliseconds / 1000, 1)
    if seconds < SECONDS_PER_MINUTE:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), SECONDS_PER_MINUTE)
    return f"{minutes} min {rest} s"

"""What people read: texts per event type, channel and locale, rendered from the event's snapshot.

A text is a template in `shared/templates/<locale>/<event type>/<channel>.j2` with a title and a body. A channel without
one of its own says what the inbox says. A new locale is a folder: what it lacks is said in English. A new event type is
a folder in each locale: until it has one, the `default` folder speaks for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from babel import Locale, UnknownLocaleError
from babel.numbers import format_decimal
from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    Template,
    UndefinedError,
    pass_context,
    select_autoescape,
)
from jinja2.runtime import Context

from shared.channel import IN_APP

TEMPLATES = Path(__file__).parent / "templates"
FALLBACK_LOCALE = "en"
DEFAULT = "default"
MESSAGES = "messages"
SECONDS_PER_MINUTE = 60


@dataclass(frozen=True, slots=True)
class Text:
    """One line that says what happened, and a sentence more. Plain: whoever puts it into a page escapes it."""

    title: str
    body: str


def render_text(event_type: str, snapshot: Mapping[str, Any], *, locale: str | None, channel: str = IN_APP) -> Text:
    """Return what an event reads like.

    Args:
        event_type: Name of the event's type; one without a text of its own gets the default text.
        snapshot: The facts stored with the event (see `DomainEvent.snapshot`).
        locale: The reader's language tag, None where it is not known.
        channel: Where it will be read.
    """
    facts = {"event_type": event_type, **snapshot}
    try:
        return _render(_event_template(event_type, channel, locale), facts, locale)
    except UndefinedError:
        # A text may ask for a fact that older events do not have. One of them must not make the whole list unreadable.
        return _render(_event_template(DEFAULT, channel, locale), facts, locale)


def render_message(name: str, facts: Mapping[str, Any], *, locale: str | None) -> Text:
    """Return a text that is about no event: `code`, `test` or `contact_point_disabled`."""
    return _render(_template(f"{MESSAGES}/{name}.j2", locale), facts, locale)


def render_layout(name: str, facts: Mapping[str, Any], *, locale: str | None) -> str:
    """Return a text in the form of its channel, such as `email.html`, which escapes what it holds."""
    return _template(f"{name}.j2", locale).render({**facts, "locale": locale}).strip()


@cache
def find_locale(tag: str | None) -> Locale:
    """Return how numbers and times are written in the texts that a language tag leads to."""
    *folders, _ = _folders(tag)
    try:
        return Locale.parse((tag if tag and folders else FALLBACK_LOCALE).replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        # A variant that Babel does not know; its language is one of ours.
        return Locale(folders[0].partition("-")[0])


def _render(template: Template, facts: Mapping[str, Any], locale: str | None) -> Text:
    context = template.new_context({**facts, "locale": locale})
    title, body = ("".join(template.blocks[block](context)).strip() for block in ("title", "body"))
    return Text(title=title, body=body)


@cache
def _event_template(event_type: str, channel: str, locale: str | None) -> Template:
    names = [
        f"{folder}/{kind}/{form}.j2"
        for folder in _folders(locale)
        for kind in (event_type, DEFAULT)
        for form in (channel, IN_APP)
    ]
    return _environment().select_template(names)


@cache
def _template(name: str, locale: str | None) -> Template:
    return _environment().select_template([f"{folder}/{name}" for folder in _folders(locale)])


def _folders(locale: str | None) -> list[str]:
    """Return where to look for a text: for `de-AT` in `de-AT`, `de` and, as there is always one, `en`."""
    subtags = (locale or FALLBACK_LOCALE).split("-")
    tags = ["-".join(subtags[:length]) for length in range(len(subtags), 0, -1)]
    return [*(tag for tag in tags if tag in _locales()), FALLBACK_LOCALE]


@cache
def _locales() -> frozenset[str]:
    return frozenset(path.name for path in TEMPLATES.iterdir() if path.is_dir())


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        # Texts are plain, and escaped by the layout that takes them in; that of a page escapes by itself.
        autoescape=select_autoescape(enabled_extensions=("html.j2",), default=False),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = _duration
    return environment


@pass_context
def _duration(context: Context, milliseconds: int) -> str:
    seconds = round(milliseconds / 1000, 1)
    if seconds < SECONDS_PER_MINUTE:
        return f"{format_decimal(seconds, '0.0', locale=find_locale(context['locale']))} s"
    minutes, rest = divmod(round(seconds), SECONDS_PER_MINUTE)
    return f"{minutes} min {rest} s"

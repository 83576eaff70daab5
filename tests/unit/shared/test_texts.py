from typing import Any

import pytest

from shared.texts import TEMPLATES, find_locale, render_message, render_text

FACTS: dict[str, dict[str, Any]] = {
    "scenario": {"id": "1", "name": "Checkout <b>& more</b>"},
    "actor": {"id": "2", "external_id": "alice", "name": "Alice"},
    "execution": {"id": "3", "outcome": "failed", "duration_ms": 1234, "url": None},
}


def test_a_text_names_the_scenario_and_the_actor_as_they_were_written():
    text = render_text("scenario.created", FACTS, locale="en")

    assert text.title == "“Checkout <b>& more</b>” was created"
    assert text.body == "Alice created this scenario."


@pytest.mark.parametrize(
    ("outcome", "title"),
    [
        ("passed", "passed"),
        ("failed", "failed"),
        ("error", "ended in an error"),
        ("skipped", "was skipped"),
        (None, "was executed"),
        ("flaky", "was executed"),
    ],
)
def test_an_execution_says_how_it_went_if_that_is_known(outcome: str | None, title: str):
    text = render_text(
        "scenario.executed", {**FACTS, "execution": {**FACTS["execution"], "outcome": outcome}}, locale=None
    )

    assert text.title == f"“Checkout <b>& more</b>” {title}"


@pytest.mark.parametrize(
    ("milliseconds", "duration"),
    [(0, "0.0 s"), (1234, "1.2 s"), (59_940, "59.9 s"), (59_960, "1 min 0 s"), (61_000, "1 min 1 s")],
)
def test_a_duration_is_said_as_people_say_it(milliseconds: int, duration: str):
    execution = {**FACTS["execution"], "duration_ms": milliseconds}

    text = render_text("scenario.executed", {**FACTS, "execution": execution}, locale="en")

    assert text.body == f"Alice executed this scenario; it took {duration}."


def test_an_event_type_without_a_text_of_its_own_is_told_all_the_same():
    text = render_text("scenario.renamed", FACTS, locale="en")

    assert text.title == "News of “Checkout <b>& more</b>”"
    assert "scenario.renamed" in text.body


def test_an_event_that_lacks_a_fact_its_text_asks_for_is_told_all_the_same():
    facts = {name: FACTS[name] for name in ("scenario", "actor")}

    assert render_text("scenario.executed", facts, locale="en").title == "News of “Checkout <b>& more</b>”"


def test_every_locale_has_every_text_and_each_a_title_of_one_line():
    locales = [path.name for path in TEMPLATES.iterdir() if path.is_dir()]
    english = {path.relative_to(TEMPLATES / "en") for path in (TEMPLATES / "en").rglob("*.j2")}

    assert {"en", "de"} <= set(locales)
    for locale in locales:
        assert {path.relative_to(TEMPLATES / locale) for path in (TEMPLATES / locale).rglob("*.j2")} == english
        for text in english:
            event_type, _, channel = str(text.with_suffix("")).rpartition("/")
            if event_type and event_type != "messages":
                title = render_text(event_type, FACTS, locale=locale, channel=channel).title
                assert title
                assert "\n" not in title


@pytest.mark.parametrize(
    ("locale", "title"),
    [
        ("de", "„Checkout <b>& more</b>“ wurde angelegt"),
        ("de-AT", "„Checkout <b>& more</b>“ wurde angelegt"),
        ("en-GB", "“Checkout <b>& more</b>” was created"),
        ("ja", "“Checkout <b>& more</b>” was created"),
        (None, "“Checkout <b>& more</b>” was created"),
    ],
)
def test_a_text_is_in_the_language_of_its_reader_or_else_in_english(locale: str | None, title: str):
    assert render_text("scenario.created", FACTS, locale=locale).title == title


def test_numbers_are_written_as_in_the_language_of_the_text():
    assert "1,2 s" in render_text("scenario.executed", FACTS, locale="de").body
    assert "1.2 s" in render_text("scenario.executed", FACTS, locale="fr").body


@pytest.mark.parametrize(
    ("tag", "written"),
    [("de-AT", "de_AT"), ("en-GB", "en_GB"), ("fr", "en"), (None, "en"), ("de-1901", "de"), ("de-XX", "de")],
)
def test_times_are_written_as_in_the_language_of_the_text(tag: str | None, written: str):
    assert str(find_locale(tag)) == written


def test_a_channel_says_it_in_its_own_words_where_it_has_some():
    assert render_text("scenario.executed", FACTS, locale="en", channel="sms").body == "Alice, 1.2 s"
    assert render_text("scenario.created", FACTS, locale="en", channel="sms").body == "Alice created this scenario."


def test_a_message_that_is_about_no_event_has_its_text_as_well():
    assert render_message("code", {"code": "123456", "minutes": 10}, locale="de").title == "Ihr Code: 123456"

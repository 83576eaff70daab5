from typing import Any

import pytest

from shared.texts import LOCALE, TEMPLATES, render_inbox_text

FACTS: dict[str, dict[str, Any]] = {
    "scenario": {"id": "1", "name": "Checkout <b>& more</b>"},
    "actor": {"id": "2", "external_id": "alice", "name": "Alice"},
    "execution": {"id": "3", "outcome": "failed", "duration_ms": 1234, "url": None},
}


def test_a_text_names_the_scenario_and_the_actor_as_they_were_written():
    text = render_inbox_text("scenario.created", FACTS)

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
    text = render_inbox_text("scenario.executed", {**FACTS, "execution": {**FACTS["execution"], "outcome": outcome}})

    assert text.title == f"“Checkout <b>& more</b>” {title}"


@pytest.mark.parametrize(
    ("milliseconds", "duration"),
    [(0, "0.0 s"), (1234, "1.2 s"), (59_940, "59.9 s"), (59_960, "1 min 0 s"), (61_000, "1 min 1 s")],
)
def test_a_duration_is_said_as_people_say_it(milliseconds: int, duration: str):
    execution = {**FACTS["execution"], "duration_ms": milliseconds}

    text = render_inbox_text("scenario.executed", {**FACTS, "execution": execution})

    assert text.body == f"Alice executed this scenario; it took {duration}."


def test_an_event_type_without_a_text_of_its_own_is_told_all_the_same():
    text = render_inbox_text("scenario.renamed", FACTS)

    assert text.title == "News of “Checkout <b>& more</b>”"
    assert "scenario.renamed" in text.body


def test_an_event_that_lacks_a_fact_its_text_asks_for_is_told_all_the_same():
    facts = {name: FACTS[name] for name in ("scenario", "actor")}

    assert render_inbox_text("scenario.executed", facts).title == "News of “Checkout <b>& more</b>”"


def test_every_text_has_a_title_of_one_line():
    event_types = [path.parent.name for path in (TEMPLATES / LOCALE).glob("*/in_app.j2")]

    assert len(event_types) >= 4
    for event_type in event_types:
        assert "\n" not in render_inbox_text(event_type, FACTS).title

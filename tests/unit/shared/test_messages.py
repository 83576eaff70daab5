import json
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any
from uuid import UUID

import pytest
from typing_extensions import override

from shared.channel import APPRISE, EMAIL, SLACK, SMS, WEBHOOK
from shared.messages import (
    Occurrence,
    Reader,
    render_code,
    render_contact_point_disabled,
    render_content,
    render_test,
)

HOSTILE = '<!channel> <@U123> & <img src=x onerror=alert(1)>\r\nBcc: eve@example.com "quoted" {{ 7*7 }}'
READER = Reader(locale="en", time_zone="Europe/Berlin")
CHANNELS = [EMAIL, SLACK, SMS, WEBHOOK, APPRISE]


def occurrence(name: str = "Checkout", *, url: str | None = "https://ci.example/runs/1?a=1&b=2") -> Occurrence:
    return Occurrence(
        event_id=UUID("01a20509-1451-7310-a4f5-0daf2b7c4221"),
        event_type="scenario.executed",
        occurred_at=datetime(2026, 11, 22, 20, 40, tzinfo=UTC),
        snapshot={
            "scenario": {"id": "1", "name": name},
            "actor": {"id": "2", "external_id": "alice", "name": "Alice"},
            "execution": {"id": "3", "outcome": "failed", "duration_ms": 1234, "url": url},
        },
    )


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str | None] = []
        self.text = ""
        self.feed(html)

    @override
    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name == "href"]

    @override
    def handle_data(self, data: str) -> None:
        self.text += data


class TestEmail:
    def test_says_what_happened_as_text_and_as_a_page(self):
        content = render_content(EMAIL, occurrence(), READER, unsubscribe_url="https://n.example/u/1")

        assert content.subject == "“Checkout” failed"
        assert "Alice executed this scenario; it took 1.2 s." in content.text
        assert "See the execution: https://ci.example/runs/1?a=1&b=2" in content.text
        assert "No more mail of this kind: https://n.example/u/1" in content.text
        assert content.html is not None
        page = Page(content.html)
        assert page.links == ["https://ci.example/runs/1?a=1&b=2", "https://n.example/u/1"]
        assert "“Checkout” failed" in page.text

    def test_is_in_the_language_and_the_time_of_its_reader(self):
        content = render_content(EMAIL, occurrence(), Reader(locale="de-DE", time_zone="Europe/Berlin"))

        assert content.subject == "„Checkout“ ist fehlgeschlagen"
        assert "22. November 2026" in content.text
        assert "21:40:00 MEZ" in content.text
        assert content.html is not None
        assert '<html lang="de">' in content.html
        assert "Ausführung ansehen" in content.html

    def test_what_a_name_holds_is_shown_and_does_nothing(self):
        content = render_content(EMAIL, occurrence(HOSTILE), READER)

        assert "\r" not in content.subject
        assert "\n" not in content.subject
        assert content.html is not None
        page = Page(content.html)
        assert "img" not in page.tags
        assert "<img src=x onerror=alert(1)>" in page.text
        assert "{{ 7*7 }}" in page.text

    @pytest.mark.parametrize("url", [None, "javascript:alert(1)", "data:text/html,x"])
    def test_has_no_button_without_a_page_to_open(self, url: str | None):
        content = render_content(EMAIL, occurrence(url=url), READER)

        assert content.html is not None
        assert Page(content.html).links == []


class TestSlack:
    def test_says_what_happened_in_blocks(self):
        payload: Any = render_content(SLACK, occurrence(), READER).payload

        assert payload["text"] == "“Checkout” failed"
        assert payload["blocks"][0]["text"]["text"] == (
            "*“Checkout” failed*\nAlice executed this scenario; it took 1.2 s."
        )
        assert "https://ci.example/runs/1?a=1&amp;b=2" in payload["blocks"][1]["elements"][0]["text"]

    def test_a_name_mentions_nobody(self):
        written = json.dumps(render_content(SLACK, occurrence(HOSTILE), READER).payload)

        assert "<" not in written
        assert "&lt;!channel&gt; &lt;@U123&gt; &amp;" in written

    def test_stays_within_the_limits_of_a_block(self):
        payload: Any = render_content(SLACK, occurrence("&" * 2000), READER).payload

        assert len(payload["blocks"][0]["text"]["text"]) <= 3000


class TestSms:
    def test_is_short(self):
        assert render_content(SMS, occurrence(), READER).text == '"Checkout" failed. Alice, 1.2 s'

    def test_of_a_long_name_is_still_one(self):
        assert len(render_content(SMS, occurrence("x" * 500), READER).text) == 160


class TestWebhook:
    def test_holds_the_facts_and_the_words(self):
        assert render_content(WEBHOOK, occurrence(), READER).payload == {
            "type": "scenario.executed",
            "timestamp": "2026-11-22T20:40:00Z",
            "data": {
                "notification_id": "01a20509-1451-7310-a4f5-0daf2b7c4221",
                "title": "“Checkout” failed",
                "body": "Alice executed this scenario; it took 1.2 s.",
                "scenario": {"id": "1", "name": "Checkout"},
                "actor": {"id": "2", "external_id": "alice", "name": "Alice"},
                "execution": {
                    "id": "3",
                    "outcome": "failed",
                    "duration_ms": 1234,
                    "url": "https://ci.example/runs/1?a=1&b=2",
                },
            },
        }


@pytest.mark.parametrize("channel", CHANNELS)
class TestEveryChannel:
    def test_tells_an_event_that_lacks_facts(self, channel: str):
        bare = Occurrence(
            event_id=UUID(int=1),
            event_type="scenario.renamed",
            occurred_at=datetime(2026, 11, 22, tzinfo=UTC),
            snapshot={"scenario": {"id": "1", "name": "Checkout"}, "actor": {"id": "2", "name": "Alice"}},
        )

        assert "Checkout" in render_content(channel, bare, Reader()).text

    def test_carries_a_code(self, channel: str):
        content = render_code(channel, "123456", READER, minutes=10)

        assert "123456" in content.text
        assert "10 minutes" in content.text

    def test_carries_a_test_message(self, channel: str):
        assert render_test(channel, Reader(locale="de")).subject == "Es funktioniert"

    def test_tells_the_owner_of_a_dead_address(self, channel: str):
        content = render_contact_point_disabled(
            channel, READER, about="webhook", masked_address="https://example.com/…"
        )

        assert content.subject == "Nothing is sent to your webhook any more"
        assert "https://example.com/" in content.text

from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from shared.channel import Content, OutboundMessage, PermanentFailure
from shared.mail import MailSettings, build_mail

SENDER = "Scenarios <no-reply@service.example>"
MESSAGE = OutboundMessage(
    id=UUID("019abcde-0000-7000-8000-000000000001"),
    address="bob@receiver.example",
    content=Content(subject="Checkout failed", text="Checkout failed.", html="<p>Checkout failed.</p>"),
    created_at=datetime(2026, 11, 22, 12, tzinfo=UTC),
)


def read(mail: bytes) -> EmailMessage:
    return message_from_bytes(mail, policy=default)


def say(**changes: Any) -> OutboundMessage:
    return replace(MESSAGE, content=replace(MESSAGE.content, **changes))


class TestBuild:
    def test_the_headers_say_who_what_and_when(self):
        mail = read(build_mail(MESSAGE, sender=SENDER))

        assert mail["From"] == SENDER
        assert mail["To"] == "bob@receiver.example"
        assert mail["Subject"] == "Checkout failed"
        assert mail["Date"] == "Sun, 22 Nov 2026 12:00:00 +0000"
        assert mail["Message-ID"] == f"<{MESSAGE.id}@service.example>"
        assert mail["Auto-Submitted"] == "auto-generated"

    def test_the_text_and_the_page_are_alternatives(self):
        mail = read(build_mail(MESSAGE, sender=SENDER))

        assert mail.get_content_type() == "multipart/alternative"
        assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
        assert [part.get_content().strip() for part in mail.iter_parts()] == [
            "Checkout failed.",
            "<p>Checkout failed.</p>",
        ]

    def test_without_a_page_it_is_a_plain_text(self):
        message = replace(MESSAGE, content=Content(subject="Code", text="1234"))

        mail = read(build_mail(message, sender=SENDER))

        assert mail.get_content_type() == "text/plain"
        assert mail.get_content().strip() == "1234"

    def test_it_is_carried_by_servers_that_know_seven_bits_only(self):
        message = say(subject="Prüfung „Größe“ 🙂", text="Grüße, 世界 🙂", html="<p>Grüße</p>")

        sent = build_mail(message, sender="Prüfer <no-reply@service.example>")

        assert sent.isascii()
        mail = read(sent)
        assert mail["Subject"] == "Prüfung „Größe“ 🙂"
        assert mail["From"].addresses[0].display_name == "Prüfer"
        [text, _] = mail.iter_parts()
        assert text.get_content().strip() == "Grüße, 世界 🙂"

    def test_every_line_ends_as_mail_wants_it(self):
        sent = build_mail(say(text="one\ntwo\rthree\r\n.\r\nfour"), sender=SENDER)

        assert sent.count(b"\n") == sent.count(b"\r") == sent.count(b"\r\n")

    @pytest.mark.parametrize("subject", ["a\r\nBcc: eve@example.com", "a\nb", "a\rb", "a\x00b", "a\u2028b", "a\x0bb"])
    def test_a_subject_with_a_line_break_is_refused(self, subject: str):
        with pytest.raises(PermanentFailure, match="line break"):
            build_mail(say(subject=subject), sender=SENDER)

    def test_it_is_the_same_at_every_attempt_but_for_the_boundary(self):
        plain = replace(MESSAGE, content=Content(subject="Code", text="1234"))

        assert build_mail(plain, sender=SENDER) == build_mail(plain, sender=SENDER)


class TestUnsubscribe:
    def test_one_click_ends_further_ones(self):
        url = f"https://service.example/v1/unsubscribe/{'t' * 500}"

        sent = build_mail(replace(MESSAGE, unsubscribe_url=url), sender=SENDER)

        assert b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in sent
        assert sent.startswith(f"List-Unsubscribe: <{url}>\r\n".encode())
        assert read(sent)["Subject"] == "Checkout failed"

    def test_nothing_is_offered_where_nothing_ends_them(self):
        assert read(build_mail(MESSAGE, sender=SENDER))["List-Unsubscribe"] is None


class TestSender:
    def test_it_may_have_a_name(self):
        assert MailSettings(sender=SENDER).address == "no-reply@service.example"
        assert MailSettings(sender="no-reply@service.example").address == "no-reply@service.example"

    @pytest.mark.parametrize("sender", ["nobody", "Scenarios", "a@b\r\nBcc: c@d", "<>"])
    def test_it_must_be_an_address(self, sender: str):
        with pytest.raises(ValidationError, match="must be an e-mail address"):
            MailSettings(sender=sender)

import pytest

from shared.wording import MAX_LENGTH, quote_provider


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("550 5.1.1 <bob@example.com>: user unknown", "550 5.1.1 <…>: user unknown"),
        ("550 no mailbox here called BOB.Smith+x@EXAMPLE.com", "550 no mailbox here called …"),
        ("The number +49 (151) 123-456-78 is not valid", "The number … is not valid"),
        ("'To' number 12025550100 is blocked", "'To' number … is blocked"),
        ("see https://hooks.example.com/T0/B0/secret for more", "see … for more"),
        ("two\r\nlines\tand\x00a\u2028third", "two lines and a third"),
        ("error 20429 of 2026", "error 20429 of 2026"),
        ("2.0.0 Ok: queued as 4F1C8120034", "2.0.0 Ok: queued as 4F1C8120034"),
        ("", ""),
    ],
)
def test_what_is_said_is_kept_without_whom_it_is_about(said: str, kept: str):
    assert quote_provider(said) == kept


def test_secrets_are_left_out_in_any_case():
    assert quote_provider("Key S3cret and s3CRET", "s3cret", "") == "Key … and …"


def test_a_long_text_is_cut():
    kept = quote_provider("word " * 100)

    assert len(kept) == MAX_LENGTH
    assert kept.endswith("…")

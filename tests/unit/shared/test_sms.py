import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.sms import GSM_ALPHABET, GSM_EXTENSION, fit_sms


def test_a_short_text_stays_as_it_is():
    assert fit_sms("Checkout failed. Alice, 1.2 s") == "Checkout failed. Alice, 1.2 s"


def test_fine_punctuation_becomes_plain_because_it_would_halve_what_fits():
    assert fit_sms("„Prüfung“ \u2013 “done”…\u00a0ok\nand \u2019more\u2019") == '"Prüfung" - "done"... ok and \'more\''


@pytest.mark.parametrize(
    ("text", "length"),
    [("a" * 160, 160), ("a" * 161, 160), ("€" * 80, 80), ("€" * 81, 81), ("Ж" * 70, 70), ("Ж" * 71, 70)],
)
def test_a_long_text_is_cut_to_what_one_sms_holds(text: str, length: int):
    fitted = fit_sms(text)

    assert len(fitted) == length
    assert fitted == text or fitted.endswith("...")


@given(st.text(max_size=400))
def test_whatever_is_said_is_one_sms(text: str):
    fitted = fit_sms(text)

    if all(character in GSM_ALPHABET | GSM_EXTENSION for character in fitted):
        assert sum(2 if character in GSM_EXTENSION else 1 for character in fitted) <= 160
    else:
        assert len(fitted.encode("utf-16-le")) // 2 <= 70
    assert "\n" not in fitted

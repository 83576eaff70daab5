"""Signing secrets: new ones, and for how long the one before is valid."""

from datetime import timedelta

from standardwebhooks import Webhook

from shared.signing import OVERLAP, add_secret, list_valid_secrets, make_secret
from tests.factories import NOON


def test_new_secrets_have_the_form_of_the_convention_and_are_all_different():
    made = {make_secret() for _ in range(100)}

    assert len(made) == 100
    assert all(secret.startswith("whsec_") and Webhook(secret) for secret in made)


def test_the_first_secret_is_valid_without_end():
    stored = add_secret(None, "first", at=NOON)

    assert list_valid_secrets(stored, at=NOON + timedelta(days=3650)) == ["first"]


def test_the_one_before_is_valid_for_a_day_more():
    stored = add_secret(add_secret(None, "old", at=NOON), "new", at=NOON)

    assert list_valid_secrets(stored, at=NOON + OVERLAP - timedelta(seconds=1)) == ["new", "old"]
    assert list_valid_secrets(stored, at=NOON + OVERLAP) == ["new"]


def test_two_new_ones_in_a_row_do_not_shorten_the_day_of_the_first():
    stored = add_secret(None, "first", at=NOON)
    stored = add_secret(stored, "second", at=NOON)
    stored = add_secret(stored, "third", at=NOON + OVERLAP / 2)

    assert list_valid_secrets(stored, at=NOON + OVERLAP / 2) == ["third", "second", "first"]
    assert list_valid_secrets(stored, at=NOON + OVERLAP) == ["third", "second"]
    assert "first" not in add_secret(stored, "fourth", at=NOON + OVERLAP)


def test_there_are_never_more_than_five():
    stored = None
    for number in range(7):
        stored = add_secret(stored, f"secret {number}", at=NOON)

    assert stored
    assert list_valid_secrets(stored, at=NOON) == [f"secret {number}" for number in (6, 5, 4, 3, 2)]

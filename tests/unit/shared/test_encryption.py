"""Secrets at rest: who can open them, and with which keys."""

import pytest
from cryptography.fernet import Fernet

from shared.encryption import CannotDecrypt, Cipher, EncryptionSettings, build_cipher, make_key
from shared.ids import new_id
from shared.settings import SettingsInvalid, load_settings

OLD, NEW = make_key(), make_key()
TENANT = new_id()


class TestCipher:
    def test_a_text_comes_back(self):
        cipher = Cipher([NEW])

        assert cipher.decrypt(TENANT, cipher.encrypt(TENANT, "grüße@example.com\u0000")) == "grüße@example.com\u0000"

    def test_the_same_text_is_never_encrypted_alike(self):
        cipher = Cipher([NEW])

        assert cipher.encrypt(TENANT, "a") != cipher.encrypt(TENANT, "a")

    def test_it_opens_for_its_tenant_only(self):
        cipher = Cipher([NEW])

        with pytest.raises(CannotDecrypt):
            cipher.decrypt(new_id(), cipher.encrypt(TENANT, "a"))

    @pytest.mark.parametrize("text", ["", "nonsense", "ä", Fernet(OLD).encrypt(b"a").decode()])
    def test_what_is_not_ours_does_not_open(self, text: str):
        with pytest.raises(CannotDecrypt):
            Cipher([NEW]).decrypt(TENANT, text)

    def test_an_older_key_still_opens_and_encrypts_nothing(self):
        encrypted = Cipher([OLD]).encrypt(TENANT, "a")

        assert Cipher([NEW, OLD]).decrypt(TENANT, encrypted) == "a"
        with pytest.raises(CannotDecrypt):
            Cipher([OLD]).decrypt(TENANT, Cipher([NEW, OLD]).encrypt(TENANT, "a"))

    def test_a_token_tells_whose_it_is(self):
        cipher = Cipher([NEW])

        assert cipher.decrypt_token(cipher.encrypt(TENANT, "a")) == (TENANT, "a")


class TestReencrypt:
    def test_the_newest_key_alone_opens_it_afterwards(self):
        encrypted = Cipher([NEW, OLD]).reencrypt(Cipher([OLD]).encrypt(TENANT, "a"))

        assert Cipher([NEW]).decrypt(TENANT, encrypted) == "a"

    def test_what_has_the_newest_key_stays_as_it_is(self):
        encrypted = Cipher([NEW]).encrypt(TENANT, "a")

        assert Cipher([NEW, OLD]).reencrypt(encrypted) == encrypted

    def test_what_no_key_opens_is_said_so(self):
        with pytest.raises(CannotDecrypt):
            Cipher([NEW]).reencrypt(Cipher([OLD]).encrypt(TENANT, "a"))


class TestSettings:
    def test_keys_stand_between_commas_the_newest_first(self):
        settings = EncryptionSettings.model_validate({"encryption_keys": f" {NEW} , {OLD},"})

        encrypted = build_cipher(settings).encrypt(TENANT, "a")

        assert Cipher([NEW]).decrypt(TENANT, encrypted) == "a"

    @pytest.mark.parametrize("keys", ["", " , ", "short", f"{NEW},short", "ä" * 44])
    def test_what_is_no_key_is_refused_without_being_shown(self, monkeypatch: pytest.MonkeyPatch, keys: str):
        monkeypatch.setenv("ENCRYPTION_KEYS", keys)

        with pytest.raises(SettingsInvalid, match="ENCRYPTION_KEYS: ") as refusal:
            load_settings(EncryptionSettings)

        assert "short" not in str(refusal.value)
        assert NEW not in str(refusal.value)

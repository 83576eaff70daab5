"""Secrets at rest: addresses of people and keys of endpoints, as the database holds them.

The first key encrypts, all of them decrypt: a new key is put in front, `notify secrets rotate` moves the rows over, and
the old one can go. `notify secrets create` makes one.
"""

import json
from collections.abc import Sequence
from uuid import UUID

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings


class EncryptionSettings(BaseSettings):
    """The keys of secrets at rest."""

    encryption_keys: SecretStr = Field(
        description="Keys that addresses and secrets are encrypted with, between commas, the newest first: each 32 "
        "random bytes in URL-safe base64."
    )

    @field_validator("encryption_keys")
    @classmethod
    def _are_keys(cls, keys: SecretStr) -> SecretStr:
        try:
            Cipher(_split(keys))
        except ValueError:
            message = "must be keys as `notify secrets create` prints them, between commas"
            raise ValueError(message) from None
        return keys


class CannotDecrypt(Exception):
    """The text was encrypted with a key we do not have, for another tenant, or not by us."""


class Cipher:
    """Encrypts texts of tenants. Each is bound to its tenant: copied into a row of another, it opens for nobody."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Take the keys, newest first: each 32 random bytes in URL-safe base64.

        Raises:
            ValueError: There is none, or one is no such key.
        """
        fernets = [Fernet(key) for key in keys]
        self._fernet = MultiFernet(fernets)
        self._newest = fernets[0]

    def encrypt(self, tenant_id: UUID, text: str) -> str:
        """Return the text encrypted, in characters that are safe in a URL."""
        return self._fernet.encrypt(json.dumps([str(tenant_id), text]).encode()).decode()

    def decrypt(self, tenant_id: UUID, encrypted: str) -> str:
        """Return the text.

        Raises:
            CannotDecrypt: It is not one of this tenant's.
        """
        owner, text = self._open(encrypted)
        if owner != tenant_id:
            message = "It belongs to another tenant."
            raise CannotDecrypt(message)
        return text

    def decrypt_token(self, encrypted: str) -> tuple[UUID, str]:
        """Return whose it is and the text, for a token that comes back from outside and names its own tenant.

        Raises:
            CannotDecrypt: It is not ours.
        """
        return self._open(encrypted)

    def reencrypt(self, encrypted: str) -> str:
        """Return the same secret, encrypted with the newest key; where it is so already, the same text.

        Raises:
            CannotDecrypt: It is not ours.
        """
        try:
            self._newest.decrypt(encrypted.encode())
        except InvalidToken:
            pass
        else:
            return encrypted
        try:
            return self._fernet.rotate(encrypted.encode()).decode()
        except InvalidToken as error:
            message = "None of the keys opens it."
            raise CannotDecrypt(message) from error

    def _open(self, encrypted: str) -> tuple[UUID, str]:
        try:
            owner, text = json.loads(self._fernet.decrypt(encrypted.encode()))
        except (InvalidToken, UnicodeEncodeError) as error:
            message = "None of the keys opens it."
            raise CannotDecrypt(message) from error
        return UUID(owner), text


def build_cipher(settings: EncryptionSettings) -> Cipher:
    """Return the cipher with the keys of the settings."""
    return Cipher(_split(settings.encryption_keys))


def make_key() -> str:
    """Return a new key."""
    return Fernet.generate_key().decode()


def _split(keys: SecretStr) -> list[str]:
    return [key.strip() for key in keys.get_secret_value().split(",") if key.strip()]

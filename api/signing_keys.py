"""Whose signatures are believed: the port, and the keys that are a secret shared with the issuer."""

from abc import ABC, abstractmethod
from typing import ClassVar, TypeAlias

from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from typing_extensions import override

SigningKey: TypeAlias = OctKey | RSAKey | ECKey | OKPKey


class KeyNotFound(ValueError):
    """There is no key for what a token says it was signed with."""


class SigningKeys(ABC):
    """The keys that tokens are checked with.

    Attributes:
        algorithms: The algorithms that go with these keys. They belong to the keys, not to the token: what a token says
            of itself does not choose how it is checked.
    """

    algorithms: ClassVar[frozenset[str]]

    @abstractmethod
    async def get_key(self, algorithm: str, key_id: str | None) -> SigningKey:
        """Return the key for one of our algorithms.

        Args:
            algorithm: One of `algorithms`.
            key_id: The token's name for the key (`kid`), if it has one.

        Raises:
            KeyNotFound: There is none.
            api.problems.ServiceUnavailable: It cannot be told at the moment.
        """


class SharedSecret(SigningKeys):
    """One secret, for development and for issuers that share theirs."""

    algorithms = frozenset({"HS256"})

    def __init__(self, secret: str) -> None:
        """Import the secret once: that costs more than checking a signature."""
        self._key = OctKey.import_key(secret)

    @override
    async def get_key(self, algorithm: str, key_id: str | None) -> SigningKey:
        """Return the secret, whatever the token calls it."""
        return self._key

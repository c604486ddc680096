"""Secret keys that can be rotated: a setting contains the current key and, during a rotation, previous keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pydantic import SecretStr

MIN_KEY_LENGTH = 32
"""Minimum length of a key in characters."""


@dataclass(frozen=True, repr=False)
class SecretKeys:
    """The current key, which signs and derives, and previous keys, whose signatures are still accepted."""

    current: bytes
    previous: tuple[bytes, ...] = ()

    @property
    def all(self) -> tuple[bytes, ...]:
        """All keys, the current key first."""
        return (self.current, *self.previous)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``KEY[,KEY...]``, the current key first.

        Raises:
            ValueError: A key is too short or occurs twice; the message contains no key.
        """
        keys = [key.strip() for key in text.split(",")]
        if any(len(key) < MIN_KEY_LENGTH for key in keys):
            raise ValueError(f"has a key of less than {MIN_KEY_LENGTH} characters")
        if len(set(keys)) < len(keys):
            raise ValueError("has the same key twice")
        current, *previous = (key.encode() for key in keys)
        return cls(current, tuple(previous))


def valid_secret_keys(keys: SecretStr) -> SecretStr:
    """Return the value unchanged if it is a valid list of secret keys.

    Raises:
        ValueError: ``SecretKeys.parse`` does not accept the value.
    """
    SecretKeys.parse(keys.get_secret_value())
    return keys

"""A list of secret keys in one setting, so that a key can be replaced while the processes run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pydantic import SecretStr

MIN_KEY_LENGTH = 32
"""In characters."""


@dataclass(frozen=True, repr=False)
class SecretKeys:
    """``current`` signs and derives; ``former`` keys still verify what they signed."""

    current: bytes
    former: tuple[bytes, ...] = ()

    @property
    def all(self) -> tuple[bytes, ...]:
        return (self.current, *self.former)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``KEY[,KEY...]``, the current one first.

        Raises:
            ValueError: a key is too short, or it is there twice; the message shows no key.
        """
        keys = [key.strip() for key in text.split(",")]
        if any(len(key) < MIN_KEY_LENGTH for key in keys):
            raise ValueError(f"has a key of less than {MIN_KEY_LENGTH} characters")
        if len(set(keys)) < len(keys):
            raise ValueError("has the same key twice")
        current, *former = (key.encode() for key in keys)
        return cls(current, tuple(former))


def checked_secret_keys(keys: SecretStr) -> SecretStr:
    """Return the same value if SecretKeys can be read from it. Raises ValueError."""
    SecretKeys.parse(keys.get_secret_value())
    return keys

"""Cursors: encoded positions are decoded, and anything else is rejected."""

from __future__ import annotations

import base64
from itertools import product

import pytest

from contracts.errors import InvalidCursor
from contracts.operations import Position
from infrastructure.signing.secret_keys import SecretKeys
from resolvers.operations.cursors import Cursors

CURSORS = Cursors(SecretKeys(b"secret"))
ID, OTHER_ID = "login-" + "a" * 32, "login-" + "b" * 32
POSITION = Position(run=7, revision=3, closed=True, attempt=2, permille=500)
SIGNATURE_BYTES = 12


def decoded(cursor: str) -> bytes:
    return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def test_decodes_the_encoded_position() -> None:
    assert CURSORS.decode(ID, CURSORS.encode(ID, POSITION)) == POSITION


def test_rejects_a_cursor_of_another_operation() -> None:
    with pytest.raises(InvalidCursor):
        CURSORS.decode(OTHER_ID, CURSORS.encode(ID, POSITION))


def test_accepts_a_cursor_of_a_former_key_and_rejects_unknown_keys() -> None:
    cursor = CURSORS.encode(ID, POSITION)
    assert Cursors(SecretKeys(b"new", (b"secret",))).decode(ID, cursor) == POSITION
    with pytest.raises(InvalidCursor):
        Cursors(SecretKeys(b"new")).decode(ID, cursor)


def test_rejects_a_cursor_with_any_changed_bit() -> None:
    content = decoded(CURSORS.encode(ID, POSITION))
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InvalidCursor):
            CURSORS.decode(ID, encoded(bytes(changed)))


def test_signature_has_96_bits_and_short_signatures_are_rejected() -> None:
    text = b"7.9.0.2.500"
    assert len(decoded(CURSORS.sign(ID, text.decode()))) == SIGNATURE_BYTES + len(text)
    for length in (0, 1, 2):
        for guess in product(range(256), repeat=length):
            with pytest.raises(InvalidCursor):
                CURSORS.decode(ID, encoded(bytes(guess) + text))

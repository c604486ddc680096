"""Cursors: what was written is read again, and nothing else is."""

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


def raw(cursor: str) -> bytes:
    return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))


def written(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def test_a_position_is_read_as_it_was_written() -> None:
    assert CURSORS.read(ID, CURSORS.write(ID, POSITION)) == POSITION


def test_a_cursor_belongs_to_one_operation() -> None:
    with pytest.raises(InvalidCursor):
        CURSORS.read(OTHER_ID, CURSORS.write(ID, POSITION))


def test_a_cursor_of_another_key_is_refused_and_one_of_a_former_key_is_read() -> None:
    cursor = CURSORS.write(ID, POSITION)
    assert Cursors(SecretKeys(b"new", (b"secret",))).read(ID, cursor) == POSITION
    with pytest.raises(InvalidCursor):
        Cursors(SecretKeys(b"new")).read(ID, cursor)


def test_every_bit_of_a_cursor_counts() -> None:
    content = raw(CURSORS.write(ID, POSITION))
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InvalidCursor):
            CURSORS.read(ID, written(bytes(changed)))


def test_a_signature_has_96_bits_and_is_not_found_by_trying() -> None:
    text = b"7.9.0.2.500"
    assert len(raw(CURSORS.seal(ID, text.decode()))) == SIGNATURE_BYTES + len(text)
    for length in (0, 1, 2):
        for guess in product(range(256), repeat=length):
            with pytest.raises(InvalidCursor):
                CURSORS.read(ID, written(bytes(guess) + text))

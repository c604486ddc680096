"""Signed cursors: opaque text that identifies a state of an operation or a row of a list."""

from __future__ import annotations

import base64
import binascii
import hmac

from contracts.errors import FieldError, InvalidCursor
from contracts.operations import Position
from infrastructure.signing.secret_keys import SecretKeys

_SIGNATURE_BYTES = 12


class Cursors:
    """Encodes and decodes cursors, signed with the secret key of the gateway, so that every replica can read them."""

    def __init__(self, keys: SecretKeys) -> None:
        self._keys = keys

    def encode(self, operation_id: str, position: Position) -> str:
        """Return the cursor of a position in the life of an operation."""
        text = ".".join(str(int(part)) for part in position.as_tuple())
        return self.sign(operation_id, text)

    def decode(self, operation_id: str, cursor: str) -> Position:
        """Return the position of a cursor.

        Raises:
            InvalidCursor: the cursor is forged, damaged, or belongs to another operation.
        """
        text = self.verify(operation_id, cursor)
        try:
            run, revision, closed, repaired, attempt, permille = (int(part) for part in text.split("."))
        except ValueError as error:
            raise _invalid() from error
        return Position(
            run=run,
            revision=revision,
            closed=bool(closed),
            repaired=bool(repaired),
            attempt=attempt,
            permille=permille,
        )

    def sign(self, scope: str, text: str) -> str:
        """Return ``text`` with its signature, URL-safe.

        The signature also covers ``scope``, which the result does not contain.
        """
        return (
            base64.urlsafe_b64encode(self._signature(self._keys.current, scope, text.encode()) + text.encode())
            .decode()
            .rstrip("=")
        )

    def verify(self, scope: str, cursor: str) -> str:
        """Return the text of a signed cursor.

        Raises:
            InvalidCursor: the cursor was not signed by this gateway for this scope.
        """
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise _invalid() from error
        signature, text = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        if not any(hmac.compare_digest(signature, self._signature(key, scope, text)) for key in self._keys.all):
            raise _invalid()
        return text.decode()

    @staticmethod
    def _signature(key: bytes, scope: str, text: bytes) -> bytes:
        return hmac.digest(key, b"cursor\0" + scope.encode() + b"\0" + text, "sha256")[:_SIGNATURE_BYTES]


def _invalid() -> InvalidCursor:
    return InvalidCursor(fields=(FieldError(path=("after",), message="This cursor is not one of ours."),))

"""Cursors: where a state stands in its operation's life, or a row in a list, signed so that none can be forged."""

from __future__ import annotations

import base64
import binascii
import hmac

from contracts.errors import FieldError, InvalidCursor
from contracts.operations import Position
from infrastructure.signing.secret_keys import SecretKeys

_SIGNATURE_BYTES = 12


class Cursors:
    """Writes and reads cursors under the edge's key, so that any replica reads what another wrote."""

    def __init__(self, keys: SecretKeys) -> None:
        self._keys = keys

    def write(self, operation_id: str, position: Position) -> str:
        text = ".".join(str(int(part)) for part in position.as_tuple())
        return self.seal(operation_id, text)

    def read(self, operation_id: str, cursor: str) -> Position:
        """The position; InvalidCursor where the cursor is forged, mangled or of another operation."""
        text = self.open(operation_id, cursor)
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

    def seal(self, scope: str, text: str) -> str:
        """``text`` with its signature, as URL-safe text. ``scope`` (what it belongs to) is signed too but not told."""
        return (
            base64.urlsafe_b64encode(self._sign(self._keys.current, scope, text.encode()) + text.encode())
            .decode()
            .rstrip("=")
        )

    def open(self, scope: str, cursor: str) -> str:
        """The text again; InvalidCursor where the cursor was not sealed by us for this scope."""
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise _invalid() from error
        signature, text = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        if not any(hmac.compare_digest(signature, self._sign(key, scope, text)) for key in self._keys.all):
            raise _invalid()
        return text.decode()

    @staticmethod
    def _sign(key: bytes, scope: str, text: bytes) -> bytes:
        return hmac.digest(key, b"cursor\0" + scope.encode() + b"\0" + text, "sha256")[:_SIGNATURE_BYTES]


def _invalid() -> InvalidCursor:
    return InvalidCursor(fields=(FieldError(path=("after",), message="This cursor is not one of ours."),))

"""Check the bytes of an upload against its grant while they arrive."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

from contracts.errors import InvalidInput, UploadTooLarge
from contracts.transfer_grants import UploadGrant
from infrastructure.content_sniffing import SAMPLE_BYTES, contradicts

_MAX_LENGTH_DIGITS = 18


class IncomingBytes:
    """The body of one upload: measured, hashed and compared with the announced type while it is passed on."""

    def __init__(self, grant: UploadGrant) -> None:
        self._grant = grant
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def checksum(self) -> str:
        """Lower-case hex SHA-256 of what has arrived."""
        return self._digest.hexdigest()

    def check_content_length(self, content_length: str | None) -> None:
        """Refuse a body before its first byte if its Content-Length contradicts the grant.

        Raises:
            UploadTooLarge: the client is about to send more than it announced.
            InvalidInput: the client is about to send less.
        """
        if content_length is None or not content_length.isdecimal():
            return
        if len(content_length) > _MAX_LENGTH_DIGITS or int(content_length) > self._grant.size:
            raise UploadTooLarge()
        if int(content_length) < self._grant.size:
            raise _too_few()

    async def checked(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the chunks again.

        Raises:
            InvalidInput: as soon as the chunks break a condition of the grant, at the latest instead of ending.
        """
        sample = bytearray()
        is_type_checked = False
        async for chunk in chunks:
            self.size += len(chunk)
            if self.size > self._grant.size:
                raise UploadTooLarge()
            self._digest.update(chunk)
            if is_type_checked:
                yield chunk
                continue
            sample += chunk
            if len(sample) >= SAMPLE_BYTES:
                self._check_type(bytes(sample[:SAMPLE_BYTES]))
                is_type_checked = True
                yield bytes(sample)
        if self.size < self._grant.size:
            raise _too_few()
        if self._grant.checksum is not None and self.checksum != self._grant.checksum:
            raise InvalidInput("The bytes do not have the announced checksum.")
        if not is_type_checked:
            self._check_type(bytes(sample))
            yield bytes(sample)

    def _check_type(self, sample: bytes) -> None:
        if contradicts(sample, self._grant.content_type):
            raise InvalidInput(f"The bytes are not of the type {self._grant.content_type}.")


def _too_few() -> InvalidInput:
    return InvalidInput("Fewer bytes than were announced.")

"""Verify the bytes of an upload (size, checksum and content type) against its grant while they arrive."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

from contracts.errors import InvalidInput, UploadTooLarge
from contracts.transfer_grants import UploadGrant
from infrastructure.content_sniffing import SAMPLE_BYTES, contradicts

_MAX_LENGTH_DIGITS = 18


class IncomingBytes:
    """The body of one upload, which is counted, hashed and compared with the announced content type.

    Args:
        grant: states the size, the content type and, optionally, the checksum of the file.
    """

    def __init__(self, grant: UploadGrant) -> None:
        self._grant = grant
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def checksum(self) -> str:
        """The SHA-256 of the bytes that have arrived, in lower-case hexadecimal digits."""
        return self._digest.hexdigest()

    def check_content_length(self, content_length: str | None) -> None:
        """Check the header Content-Length against the size in the grant, before the first byte is read.

        Raises:
            UploadTooLarge: the body is larger than announced.
            InvalidInput: the body is smaller than announced.
        """
        if content_length is None or not content_length.isdecimal():
            return
        if len(content_length) > _MAX_LENGTH_DIGITS or int(content_length) > self._grant.size:
            raise UploadTooLarge()
        if int(content_length) < self._grant.size:
            raise _too_few_bytes()

    async def verify(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the bytes of the chunks unchanged, and verify them.

        Raises:
            UploadTooLarge: there are more bytes than announced.
            InvalidInput: size, checksum or content type differ from the grant. The error is raised as soon as that is
                known, at the latest after the last chunk.
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
            raise _too_few_bytes()
        if self._grant.checksum is not None and self.checksum != self._grant.checksum:
            raise InvalidInput("The bytes do not have the announced checksum.")
        if not is_type_checked:
            self._check_type(bytes(sample))
            yield bytes(sample)

    def _check_type(self, sample: bytes) -> None:
        if contradicts(sample, self._grant.content_type):
            raise InvalidInput(f"The bytes are not of the type {self._grant.content_type}.")


def _too_few_bytes() -> InvalidInput:
    return InvalidInput("The upload has fewer bytes than declared.")

"""Types for files: uploads, files, pages of files, the inputs of file operations, and extracted metadata."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from contracts.base import Contract
from contracts.operations import StepHeartbeat
from contracts.tenants import SubscriptionTier


class AccessLevel(StrEnum):
    """Which members can see a file: PRIVATE: its owner and administrators of the tenant; TENANT: all members."""

    PRIVATE = "PRIVATE"
    TENANT = "TENANT"


class TextMetadata(Contract):
    """Counts of a text file. Words are separated by ASCII white space; a last line without newline counts as a line."""

    kind: Literal["text"] = "text"
    lines: int
    words: int
    bytes: int


class ImageMetadata(Contract):
    """Metadata of an image. ``width`` and ``height``: pixels; ``format``: Pillow's name, for instance PNG."""

    kind: Literal["image"] = "image"
    width: int
    height: int
    format: str


class OtherMetadata(Contract):
    """Metadata of a file that is neither text nor image. ``size``: bytes; ``type``: the content type."""

    kind: Literal["other"] = "other"
    size: int
    type: str


FileMetadata = Annotated[TextMetadata | ImageMetadata | OtherMetadata, Field(discriminator="kind")]


class File(Contract):
    """A file as one user sees it.

    ``checksum``: SHA-256 in lower-case hexadecimal digits; ``size``: bytes; ``download_url``: a path on the gateway,
    valid for a few minutes, to which the gateway prepends its public address.
    """

    id: str
    tenant_id: str
    owner_id: str
    name: str
    content_type: str
    size: int
    checksum: str
    access_level: AccessLevel
    uploaded_at: datetime
    download_url: str
    metadata: FileMetadata | None = None


class NewUpload(Contract):
    """The declared properties of an upload. ``tier``: the tier of the caller's tenant, which the gateway adds."""

    name: str
    content_type: str
    size: int
    checksum: str | None = None
    access_level: AccessLevel = AccessLevel.PRIVATE
    tier: SubscriptionTier


class HttpHeader(Contract):
    """A header that the client has to send with an upload."""

    name: str
    value: str


class UploadTarget(Contract):
    """The request with which a client uploads the bytes. ``url``: a path; the gateway prepends its public address."""

    id: str
    url: str
    method: str
    headers: tuple[HttpHeader, ...]
    expires_at: datetime


class UploadRef(Contract):
    """The id of an upload."""

    upload_id: str


class Upload(Contract):
    """An upload. ``file_id``: the file into which an operation turns or has turned the upload; None before that."""

    id: str
    tenant_id: str
    user_id: str
    name: str
    size: int
    access_level: AccessLevel
    file_id: str | None


class FileCursor(Contract):
    """The position of a file in the list of a tenant's files, newest first."""

    uploaded_at: datetime
    id: str


class FilePageRequest(Contract):
    """A request for the ``first`` files that follow ``after``; None: beginning with the newest file."""

    first: int = Field(default=20, ge=0, le=100)
    after: FileCursor | None = None


class FilePage(Contract):
    """A page of files. ``total_count``: the number of all files that the caller can see."""

    files: tuple[File, ...]
    has_next_page: bool
    total_count: int


class UploadFileCommand(Contract):
    """Input of the workflow UploadFile."""

    upload_id: str
    tenant_id: str
    user_id: str


class CheckedUpload(Contract):
    """An upload whose bytes are complete and match the declaration. ``checksum``: SHA-256 in lower-case hex digits."""

    name: str
    content_type: str
    access_level: AccessLevel
    size: int
    checksum: str


class NewFile(Contract):
    """Input of the step that creates the record of a file, not yet visible. ``key``: idempotency key of the step."""

    key: str
    upload_id: str
    tenant_id: str
    user_id: str
    checksum: str


class FileRecord(Contract):
    """The id of a file whose record was created."""

    file_id: str


class StoredFile(Contract):
    """Input of the step that stores a file's bytes, and of its undo. ``key``: idempotency key of the step."""

    key: str
    file_id: str
    tenant_id: str


class FileDetails(Contract):
    """Input of the step that sets a file's name and content type. ``key``: idempotency key of the step."""

    key: str
    file_id: str
    tenant_id: str
    name: str
    content_type: str


class FilePermissions(Contract):
    """Input of the step that sets who can see a file, and makes it visible. ``key``: idempotency key of the step."""

    key: str
    file_id: str
    tenant_id: str
    access_level: AccessLevel


class ProcessFileCommand(Contract):
    """Input of the workflow ProcessFile and of those of its steps that only read.

    ``is_administrator``: the user has the permission ``operations:administer`` in the tenant and can see all its files.
    """

    file_id: str
    tenant_id: str
    user_id: str
    is_administrator: bool = False


class MetadataPublication(Contract):
    """Input of the step that publishes the extracted metadata. ``key``: idempotency key of the step."""

    key: str
    file_id: str
    tenant_id: str
    metadata: FileMetadata


class ChecksumProgress(StepHeartbeat):
    """Progress of the checksum step: ``chunks`` have been verified; the next attempt continues after them."""

    chunks: int = 0


class TextProgress(StepHeartbeat):
    """Progress of counting a text file: the counts of the first ``offset`` bytes; the next attempt continues there.

    ``in_word`` and ``in_line``: the last counted byte belongs to a word, or to a line, that may continue.
    """

    offset: int = 0
    lines: int = 0
    words: int = 0
    in_word: bool = False
    in_line: bool = False

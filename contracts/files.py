"""Files: uploads on their way in, files as their readers see them, and what processing finds out about one."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from contracts.base import Contract
from contracts.operations import StepHeartbeat
from contracts.tenants import SubscriptionTier


class AccessLevel(StrEnum):
    """PRIVATE: seen by its owner and by whoever administers the tenant; TENANT: by everybody in the tenant."""

    PRIVATE = "PRIVATE"
    TENANT = "TENANT"


class TextMetadata(Contract):
    """Counted as ``wc`` does: words stand between ASCII white space. A last line without a newline counts too."""

    kind: Literal["text"] = "text"
    lines: int
    words: int
    bytes: int


class ImageMetadata(Contract):
    """``width`` and ``height`` in pixels; ``format`` by Pillow's name, for instance PNG."""

    kind: Literal["image"] = "image"
    width: int
    height: int
    format: str


class OtherMetadata(Contract):
    """``size`` in bytes; ``type`` is the content type."""

    kind: Literal["other"] = "other"
    size: int
    type: str


FileMetadata = Annotated[TextMetadata | ImageMetadata | OtherMetadata, Field(discriminator="kind")]


class File(Contract):
    """A file as one of its readers sees it. ``checksum``: lower-case hex SHA-256; ``size`` in bytes.

    ``download_url`` works for a few minutes; it is a path on the gateway, which the edge joins to its public address.
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
    """What a client means to send. ``tier`` is that of the caller's tenant, filled in by the edge."""

    name: str
    content_type: str
    size: int
    checksum: str | None = None
    access_level: AccessLevel = AccessLevel.PRIVATE
    tier: SubscriptionTier


class HttpHeader(Contract):
    name: str
    value: str


class UploadTarget(Contract):
    """Where to send the bytes, in one request. ``url`` is a path on the gateway, which the edge makes absolute."""

    id: str
    url: str
    method: str
    headers: tuple[HttpHeader, ...]
    expires_at: datetime


class UploadRef(Contract):
    upload_id: str


class Upload(Contract):
    """An upload as whoever created it sees it. ``file_id`` is set while an operation makes or has made a file of it."""

    id: str
    tenant_id: str
    user_id: str
    name: str
    size: int
    access_level: AccessLevel
    file_id: str | None


class FileCursor(Contract):
    """Where a file stands in the list of a tenant's files, newest first."""

    uploaded_at: datetime
    id: str


class FilePageRequest(Contract):
    """The ``first`` files behind ``after`` (None: from the newest)."""

    first: int = Field(default=20, ge=0, le=100)
    after: FileCursor | None = None


class FilePage(Contract):
    """``total_count``: all that the caller may see, not only this page."""

    files: tuple[File, ...]
    has_next_page: bool
    total_count: int


class UploadFileCommand(Contract):
    """Input of the workflow UploadFile."""

    upload_id: str
    tenant_id: str
    user_id: str


class CheckedUpload(Contract):
    """Bytes that arrived whole and are what they were said to be. ``checksum``: lower-case hex SHA-256."""

    name: str
    content_type: str
    access_level: AccessLevel
    size: int
    checksum: str


class NewFile(Contract):
    """Make a file's record of a checked upload: nobody sees it yet. ``key`` makes the step idempotent."""

    key: str
    upload_id: str
    tenant_id: str
    user_id: str
    checksum: str


class FileRecord(Contract):
    file_id: str


class StoredFile(Contract):
    """A file's bytes: to be stored by the step ``key``, or to be removed again by its undo."""

    key: str
    file_id: str
    tenant_id: str


class FileDetails(Contract):
    """What the file is called and what it is. ``key`` makes the step idempotent."""

    key: str
    file_id: str
    tenant_id: str
    name: str
    content_type: str


class FilePermissions(Contract):
    """Who sees the file; with it the file appears. ``key`` makes the step idempotent."""

    key: str
    file_id: str
    tenant_id: str
    access_level: AccessLevel


class ProcessFileCommand(Contract):
    """Input of the workflow ProcessFile, and of its reading steps.

    ``is_administrator``: the user holds ``operations:administer`` in the tenant and so sees all its files.
    """

    file_id: str
    tenant_id: str
    user_id: str
    is_administrator: bool = False


class MetadataPublication(Contract):
    """What processing found out, to be shown. ``key`` makes the step idempotent."""

    key: str
    file_id: str
    tenant_id: str
    metadata: FileMetadata


class ChecksumProgress(StepHeartbeat):
    """``chunks`` of the file have been found as they were stored; the next try goes on behind them."""

    chunks: int = 0


class TextProgress(StepHeartbeat):
    """What was counted in the first ``offset`` bytes; the next try goes on there.

    ``in_word`` and ``in_line``: the last byte counted is part of a word, of a line that has not ended.
    """

    offset: int = 0
    lines: int = 0
    words: int = 0
    in_word: bool = False
    in_line: bool = False

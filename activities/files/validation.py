"""Validation of announced uploads, without access to the database."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from activities.files.quotas import LIMITS, MIB
from contracts.base import Contract
from contracts.errors import FieldError, InvalidInput, StorageQuotaExceeded
from contracts.files import NewUpload
from contracts.validation import Checksum, FileName, MediaType, validate


class _Announcement(Contract):
    """The constraints of an upload, in the order in which violations are reported."""

    name: FileName
    content_type: MediaType
    checksum: Checksum | None = None
    size: Annotated[int, Field(ge=0)]


def validate_upload(new: NewUpload) -> NewUpload:
    """Return the upload with a trimmed name, and with the media type and the checksum in canonical case.

    Raises:
        InvalidInput: names each invalid field.
    """
    fields: tuple[FieldError, ...] = ()
    try:
        values = validate(_Announcement, new.model_dump(include=set(_Announcement.model_fields)))
    except InvalidInput as error:
        fields = error.fields
    if new.size > (max_size := LIMITS[new.tier].file):
        fields = (*fields, _field_error("size", f"A file may have {max_size // MIB} MiB at most."))
    if fields:
        raise InvalidInput(fields=fields)
    return new.model_copy(update=values.model_dump())


def storage_exceeded() -> StorageQuotaExceeded:
    """Return the error for an upload that exceeds the storage of its tenant."""
    return StorageQuotaExceeded.for_field("size")


def share_exceeded() -> StorageQuotaExceeded:
    """Return the error for an upload that exceeds the user's share of the tenant's free storage."""
    message = "Your open uploads take their share of the tenant's free room; complete some of them first."
    return StorageQuotaExceeded(message, fields=(_field_error("size", message),))


def _field_error(name: str, message: str) -> FieldError:
    return FieldError(path=(name,), message=message)

"""What may be uploaded: the rules that need no database."""

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


def checked(new: NewUpload) -> NewUpload:
    """The same without surrounding whitespace, and with the media type and the checksum in their canonical case.

    Raises:
        InvalidInput: names each field that is wrong.
    """
    fields: tuple[FieldError, ...] = ()
    try:
        values = validate(_Announcement, new.model_dump(include=set(_Announcement.model_fields)))
    except InvalidInput as error:
        fields = error.fields
    if new.size > (most := LIMITS[new.tier].file):
        fields = (*fields, _wrong("size", f"A file may have {most // MIB} MiB at most."))
    if fields:
        raise InvalidInput(fields=fields)
    return new.model_copy(update=values.model_dump())


def no_room() -> StorageQuotaExceeded:
    """The tenant may not store so much."""
    return StorageQuotaExceeded.at("size")


def share_used_up() -> StorageQuotaExceeded:
    """The user's open uploads take as much of the tenant's free room as one user may."""
    message = "Your open uploads take their share of the tenant's free room; complete some of them first."
    return StorageQuotaExceeded(message, fields=(_wrong("size", message),))


def _wrong(name: str, message: str) -> FieldError:
    return FieldError(path=(name,), message=message)

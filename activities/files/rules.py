"""What may be uploaded: the rules that need no database."""

from __future__ import annotations

import re

from activities.files.limits import LIMITS, MIB
from contracts.errors import FieldError, InvalidInput
from contracts.files import NewUpload

_LONGEST_NAME = 255
_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/[a-z0-9][a-z0-9!#$&^_.+-]{0,62}")
"""Type and subtype (RFC 6838, 4.2), in lower case."""
_CHECKSUM = re.compile(r"[0-9a-f]{64}")


def checked(new: NewUpload) -> NewUpload:
    """The same in its normal form: name trimmed, content type without parameters, that and the checksum in lower case.

    InvalidInput names each field that is wrong.
    """
    name = new.name.strip()
    content_type = new.content_type.partition(";")[0].strip().lower()
    checksum = None if new.checksum is None else new.checksum.strip().lower()
    wrong = []
    is_path = bool(set(name) & {"/", "\\"}) or name in {".", ".."}
    if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable() or is_path:
        wrong.append(_wrong("name", f"Give a name of at most {_LONGEST_NAME} characters, without a path."))
    if not _TYPE.fullmatch(content_type):
        wrong.append(_wrong("contentType", 'Give a content type such as "text/plain".'))
    if checksum is not None and not _CHECKSUM.fullmatch(checksum):
        wrong.append(_wrong("checksum", "Give the SHA-256 as 64 hexadecimal digits."))
    if new.size < 0:
        wrong.append(_wrong("size", "A size is 0 or more."))
    elif new.size > (most := LIMITS[new.tier].file):
        wrong.append(_wrong("size", f"A file may have {most // MIB} MiB at most."))
    if wrong:
        raise InvalidInput(fields=tuple(wrong))
    return new.model_copy(update={"name": name, "content_type": content_type, "checksum": checksum})


def no_room() -> InvalidInput:
    """The tenant may not store so much."""
    message = "There is no room for this file: the tenant stores as much as it may."
    return InvalidInput(message, fields=(_wrong("size", message),))


def _wrong(name: str, message: str) -> FieldError:
    return FieldError(path=(name,), message=message)

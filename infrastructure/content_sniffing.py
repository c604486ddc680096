"""What the first bytes of a file say of its type, held against what its sender said."""

from __future__ import annotations

import codecs

import filetype

from contracts.media_types import essence_of

SAMPLE_BYTES = 8192
"""How much of a file's beginning is looked at; all of it, where it is shorter."""

_ANY = "application/octet-stream"
_TEXTUAL = frozenset(
    (
        "application/json",
        "application/xml",
        "application/yaml",
        "application/javascript",
        "application/graphql",
        "application/sql",
        "application/toml",
        "application/x-ndjson",
        "image/svg+xml",
    )
)
_OWN_NAME = {
    "image/jpg": "image/jpeg",
    "image/apng": "image/png",
    "image/vnd.microsoft.icon": "image/x-icon",
    "image/heif": "image/heic",
    "image/jp2": "image/jpx",
    "image/x-ms-bmp": "image/bmp",
    "application/x-gzip": "application/gzip",
    "application/x-zip-compressed": "application/zip",
}
"""Other names of types, and the one that ``filetype`` knows."""
_ALWAYS_MARKED = frozenset(
    (
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "image/bmp",
        "image/tiff",
        "application/pdf",
        "application/zip",
        "application/gzip",
    )
)
"""Types whose files all begin with a mark that ``filetype`` knows."""
_PROGRAMS = frozenset(("application/x-executable", "application/x-msdownload"))
_NOT_IN_TEXT = bytes(code for code in range(32) if code not in b"\t\n\v\f\r\x1b")
_WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


def is_textual(content_type: str) -> bool:
    """Whether files of this type are made of lines and words."""
    content_type = essence_of(content_type)
    return content_type.startswith("text/") or content_type in _TEXTUAL or content_type.endswith(("+json", "+xml"))


def contradicts(sample: bytes, content_type: str) -> bool:
    """Whether the sample (a file's first ``SAMPLE_BYTES``) cannot be of the type.

    Lenient: a type without a mark of its own passes unless the bytes bear another's, and whatever reads as text may be
    any textual type, for marks of two letters also begin honest texts.
    """
    content_type = essence_of(content_type)
    if content_type == _ANY:
        return False
    if is_textual(content_type):
        return not _reads_as_text(sample)
    said, found = _OWN_NAME.get(content_type, content_type), _marked_as(sample)
    if said in _ALWAYS_MARKED or (found is not None and found.startswith("image/")):
        return said != found
    if found is None:
        return False
    if found in _PROGRAMS:
        return said.startswith(("image/", "audio/", "video/", "text/", "font/")) or said in _ALWAYS_MARKED
    media = ("audio/", "video/")
    if found.startswith(media):
        return not said.startswith((*media, "application/"))
    return not said.startswith(("application/", "font/"))


def _marked_as(sample: bytes) -> str | None:
    mime: str | None = filetype.guess_mime(sample) if sample else None
    return None if mime is None else _OWN_NAME.get(mime, mime)


def _reads_as_text(sample: bytes) -> bool:
    """UTF-8 (its last character may be cut off), an 8-bit alphabet without control characters, marked UTF-16 or 32."""
    if sample.startswith(_WIDE_MARKS):
        return True
    if sample.translate(None, _NOT_IN_TEXT) != sample:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return _marked_as(sample) is None
    return True

"""Content sniffing: compare the declared media type of a file with the type that its first bytes show."""

from __future__ import annotations

import codecs

import filetype

from contracts.media_types import essence_of

SAMPLE_BYTES = 8192
"""Number of bytes at the beginning of a file that are examined."""

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
_CANONICAL_NAMES = {
    "image/jpg": "image/jpeg",
    "image/apng": "image/png",
    "image/vnd.microsoft.icon": "image/x-icon",
    "image/heif": "image/heic",
    "image/jp2": "image/jpx",
    "image/x-ms-bmp": "image/bmp",
    "application/x-gzip": "application/gzip",
    "application/x-zip-compressed": "application/zip",
}
"""Alternative names of media types, mapped to the names that the library ``filetype`` uses."""
_TYPES_WITH_SIGNATURE = frozenset(
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
"""Types whose files always begin with a signature (magic number) that ``filetype`` recognizes."""
_EXECUTABLES = frozenset(("application/x-executable", "application/x-msdownload"))
_BINARY_CONTROL_CODES = bytes(code for code in range(32) if code not in b"\t\n\v\f\r\x1b")
_WIDE_BYTE_ORDER_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


def is_textual(content_type: str) -> bool:
    """Return whether files of this media type contain text."""
    content_type = essence_of(content_type)
    return content_type.startswith("text/") or content_type in _TEXTUAL or content_type.endswith(("+json", "+xml"))


def contradicts(sample: bytes, content_type: str) -> bool:
    """Return whether the content of a file contradicts its declared media type.

    The check is lenient. A type without a signature is accepted unless the bytes have the signature of a different
    type. Bytes that are valid text are accepted as any textual type, even if they begin like a signature, because
    signatures of two letters also occur at the beginning of text.

    Args:
        sample: The first ``SAMPLE_BYTES`` bytes of the file, or the whole file if it is shorter.
        content_type: The declared media type.
    """
    content_type = essence_of(content_type)
    if content_type == _ANY:
        return False
    if is_textual(content_type):
        return not _is_text(sample)
    declared, detected = _CANONICAL_NAMES.get(content_type, content_type), _detect_type(sample)
    if declared in _TYPES_WITH_SIGNATURE or (detected is not None and detected.startswith("image/")):
        return declared != detected
    if detected is None:
        return False
    if detected in _EXECUTABLES:
        return (
            declared.startswith(("image/", "audio/", "video/", "text/", "font/")) or declared in _TYPES_WITH_SIGNATURE
        )
    media = ("audio/", "video/")
    if detected.startswith(media):
        return not declared.startswith((*media, "application/"))
    return not declared.startswith(("application/", "font/"))


def _detect_type(sample: bytes) -> str | None:
    """Return the media type of the signature at the beginning of the sample; None if there is no known signature."""
    mime: str | None = filetype.guess_mime(sample) if sample else None
    return None if mime is None else _CANONICAL_NAMES.get(mime, mime)


def _is_text(sample: bytes) -> bool:
    """Return whether the sample is text in a common encoding.

    That is UTF-16 or UTF-32 with a byte order mark, UTF-8 (the last character may be incomplete), or an 8-bit encoding
    without control characters.
    """
    if sample.startswith(_WIDE_BYTE_ORDER_MARKS):
        return True
    if sample.translate(None, _BINARY_CONTROL_CODES) != sample:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return _detect_type(sample) is None
    return True

"""Content sniffing: which content contradicts which declared media type."""

from __future__ import annotations

import codecs
import io
import zipfile

import pytest
from PIL import Image

from infrastructure.content_sniffing import SAMPLE_BYTES, contradicts, is_textual


def image(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, kind)
    return buffer.getvalue()


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as files:
        files.writestr("a.txt", "a")
    return buffer.getvalue()


PROGRAM = b"\x7fELF\x02\x01\x01" + bytes(57)
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"


@pytest.mark.parametrize(
    ("sample", "content_type"),
    [
        (image("PNG"), "image/png"),
        (image("JPEG"), "image/jpeg"),
        (image("JPEG"), "image/jpg"),
        (image("GIF"), "image/gif"),
        (image("BMP"), "image/bmp"),
        (PDF, "application/pdf"),
        (archive(), "application/zip"),
        (archive(), "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (archive(), "application/java-archive"),
        (PROGRAM, "application/octet-stream"),
        (b"plain words", "text/plain"),
        (b"", "text/plain"),
        (b"BMW is a make of car", "text/plain"),
        ("Grüße".encode() * 3000, "text/plain"),
        ("Grüße".encode("latin-1"), "text/plain"),
        (codecs.BOM_UTF16_LE + "Grüße".encode("utf-16-le"), "text/csv"),
        (b'{"a": 1}', "application/json"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
        (b"whatever it is", "application/x-something"),
        (bytes(range(256)), "model/gltf-binary"),
    ],
)
def test_accepts_content_that_matches_the_declared_type(sample: bytes, content_type: str) -> None:
    assert not contradicts(sample[:SAMPLE_BYTES], content_type)


@pytest.mark.parametrize(
    ("sample", "content_type"),
    [
        (image("PNG"), "text/plain"),
        (image("PNG"), "image/jpeg"),
        (image("PNG"), "application/x-something"),
        (image("JPEG"), "application/pdf"),
        (b"plain words", "image/png"),
        (b"", "image/png"),
        (b"plain words", "application/pdf"),
        (PROGRAM, "text/plain"),
        (PROGRAM, "image/webp"),
        (PROGRAM, "application/pdf"),
        (PROGRAM, "video/mp4"),
        (archive(), "text/csv"),
        (archive(), "audio/mpeg"),
        (PDF, "image/x-portable-pixmap"),
        (b"a\0b", "text/plain"),
    ],
)
def test_refuses_content_that_contradicts_the_declared_type(sample: bytes, content_type: str) -> None:
    assert contradicts(sample[:SAMPLE_BYTES], content_type)


def test_recognizes_textual_types() -> None:
    assert all(map(is_textual, ("text/csv", "application/json", "application/geo+json", "image/svg+xml")))
    assert not any(map(is_textual, ("image/png", "application/pdf", "application/octet-stream")))

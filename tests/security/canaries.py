"""Canaries: unique strings that tests plant as secrets, and a search for them in plain text, hexadecimal and base64."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from secrets import token_hex


def new_canary(kind: str) -> str:
    """Return a unique string."""
    return f"cnry{kind}{token_hex(8)}"


def find_canaries(canaries: Mapping[str, str], texts: Iterable[bytes]) -> set[str]:
    """Return the names of the canaries that occur in one of the texts, as they are, in hexadecimal or in base64."""
    patterns = {name: re.compile(b"|".join(map(re.escape, _encodings(value)))) for name, value in canaries.items()}
    return {name for text in texts for name, pattern in patterns.items() if pattern.search(text)}


def _encodings(value: str) -> list[bytes]:
    """Return all encodings of the value.

    The base64 form depends on the offset of the value in the encoded text; its edges depend on the neighbours and are
    left out.
    """
    plain_bytes = value.encode()
    shifted = (base64.b64encode(b"\0" * shift + plain_bytes) for shift in range(3))
    without_edges = [text[4 if shift else 0 : -4] for shift, text in enumerate(shifted)]
    url_safe = [each.translate(bytes.maketrans(b"+/", b"-_")) for each in without_edges]
    return [plain_bytes, plain_bytes.hex().encode(), *without_edges, *url_safe]

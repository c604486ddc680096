"""Words that must not lie about, and how they are looked for whatever they were written as."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from secrets import token_hex


def word(kind: str) -> str:
    """One that stands nowhere else."""
    return f"cnry{kind}{token_hex(8)}"


def found(canaries: Mapping[str, str], texts: Iterable[bytes]) -> set[str]:
    """The names of those that are in one of the texts: as they are, in hexadecimal or in base 64."""
    patterns = {name: re.compile(b"|".join(map(re.escape, _written(value)))) for name, value in canaries.items()}
    return {name for text in texts for name, pattern in patterns.items() if pattern.search(text)}


def _written(value: str) -> list[bytes]:
    """In base 64 a word looks three ways, by where it begins; its edges hang on its neighbours."""
    plain = value.encode()
    shifted = (base64.b64encode(b"\0" * shift + plain) for shift in range(3))
    inner = [text[4 if shift else 0 : -4] for shift, text in enumerate(shifted)]
    either = [each.translate(bytes.maketrans(b"+/", b"-_")) for each in inner]
    return [plain, plain.hex().encode(), *inner, *either]

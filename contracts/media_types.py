"""Media types (RFC 9110, 8.3.1, and RFC 6838, 4.2): validation and normalization.

Type, subtype and parameter names are normalized to lower case; parameter values are kept as they were entered.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_MEDIA_TYPE_LENGTH = 255

_EXAMPLE = 'Give a content type such as "text/plain".'
_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
"""The restricted-name of RFC 6838, 4.2, which allows fewer characters than the token of RFC 9110."""
_ESSENCE = re.compile(f"({_NAME})/({_NAME})")
_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # noqa: S105 - RFC 9110, 5.6.2
_QUOTED = r'"(?:[\t !#-\[\]-~]|\\[\t -~])*"'
"""The quoted-string of RFC 9110, 5.6.4 without bytes above ASCII, whose encoding no standard defines."""
_PARAMETER = re.compile(rf"[ \t]*;[ \t]*(?:({_TOKEN})=({_TOKEN}|{_QUOTED}))?")


class MediaType(NamedTuple):
    """A media type. ``essence``: type and subtype in lower case; ``parameters``: names and values in their order."""

    essence: str
    parameters: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return "".join((self.essence, *(f"; {name}={value}" for name, value in self.parameters)))


def parse_media_type(text: str) -> MediaType:
    """Parse and validate a media type.

    Raises:
        ValueError: The text is not a valid media type; the message says why.
    """
    text = text.strip(" \t")
    match = _ESSENCE.match(text)
    if match is None:
        raise ValueError(_EXAMPLE)
    parameters: dict[str, str] = {}
    end = match.end()
    while end < len(text):
        parameter = _PARAMETER.match(text, end)
        if parameter is None:
            raise ValueError(_EXAMPLE if end == match.end() else "The parameters of this content type are not valid.")
        if parameter[1]:
            name = parameter[1].lower()
            if name in parameters:
                raise ValueError(f'The parameter "{name}" of this content type is given twice.')
            parameters[name] = parameter[2]
        end = parameter.end()
    media_type = MediaType(match[0].lower(), tuple(parameters.items()))
    if len(str(media_type)) > MAX_MEDIA_TYPE_LENGTH:
        raise ValueError(f"This is too long: at most {MAX_MEDIA_TYPE_LENGTH}.")
    return media_type


def essence_of(content_type: str) -> str:
    """Return type and subtype of a valid media type, in lower case and without parameters."""
    return content_type.partition(";")[0].strip().lower()

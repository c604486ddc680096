"""The rules for every kind of value that a client sends: one type for each kind, for the edge and for the services.

Each type trims surrounding whitespace (passwords excepted), states what is wrong, and leaves the value as it was
entered, unless its standard says that two spellings are the same. Lengths count Unicode code points, unless a message
says octets. ``tests/contracts/test_validation.py`` lists each kind with its standard, examples and messages.
"""

from __future__ import annotations

import importlib.resources
import re
import unicodedata
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel

from contracts.email_addresses import code_point, parse_email
from contracts.errors import FieldError, InvalidInput
from contracts.media_types import parse_media_type

Model = TypeVar("Model", bound=BaseModel)

MAX_NAME = 200
MAX_FILE_NAME = 255
MAX_LANGUAGE_TAG = 35
"""RFC 5646, 4.4.1: the longest tag that is made of registered parts."""

_EMPTY = "This must not be empty."
_MESSAGES = {
    "string_too_short": "This is too short: at least {min_length}.",
    "too_short": "This is too short: at least {min_length}.",
    "string_too_long": "This is too long: at most {max_length}.",
    "too_long": "This is too long: at most {max_length}.",
    "greater_than_equal": "This must be {ge:g} or more.",
    "less_than_equal": "This must be {le:g} or less.",
    "finite_number": "This must be a number.",
    "enum": "This must be one of {expected}.",
    "string_unicode": "This is not valid Unicode text.",
    "missing": "This is required.",
}

_BIDI_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_SEPARATORS = frozenset("\u2028\u2029")
_BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]")
"""Letters, marks and symbols that have no shape of their own: the Default_Ignorable_Code_Point of Unicode that are not
of category Cf, and the empty Braille pattern.
"""


def validate(model: type[Model], values: Mapping[str, object], *, at: tuple[str, ...] = ()) -> Model:
    """The values as the model.

    Raises:
        InvalidInput: names each wrong field by its path, which begins with ``at``.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise invalid_input(error, at=at) from None  # the error quotes what was sent, which may be a password


def invalid_input(error: ValidationError, *, at: tuple[str, ...] = ()) -> InvalidInput:
    """What pydantic found, in words for a user and by the paths that the GraphQL schema has."""
    fields = tuple(
        FieldError(path=(*at, *_path(problem["loc"])), message=_message(problem))
        for problem in error.errors(include_url=False, include_input=False)
    )
    return InvalidInput(fields[0].message if len(fields) == 1 else None, fields=fields)


def _path(location: tuple[int | str, ...]) -> tuple[str, ...]:
    return tuple(to_camel(part) if isinstance(part, str) else str(part) for part in location)


def _message(problem: object) -> str:
    assert isinstance(problem, dict)
    facts = problem.get("ctx", {})
    if problem["type"] == "value_error":
        return str(facts["error"])
    if facts.get("min_length") == 1:
        return _EMPTY
    return _MESSAGES.get(problem["type"], "This is not valid.").format(**facts)


def _no_control_characters(text: str) -> str:
    for character in text:
        if unicodedata.category(character) == "Cc":
            raise ValueError(f"This must not contain control characters ({code_point(character)}).")
    return text


def _name(text: str) -> str:
    _no_control_characters(text)
    for character in text:
        if character in _SEPARATORS:
            raise ValueError(f"This must not contain line or paragraph separators ({code_point(character)}).")
        if character in _BIDI_OVERRIDES:
            raise ValueError(f"This must not change the direction of the text around it ({code_point(character)}).")
    if not any(_is_visible(each) for each in text):
        raise ValueError(_EMPTY)
    return text


def _is_visible(character: str) -> bool:
    """Whether it may have a shape. One that Python's Unicode does not know yet, or that is for private use, may."""
    category = unicodedata.category(character)
    if _BLANK.match(character):
        return False
    if category == "Cn":
        return not (0xFDD0 <= ord(character) <= 0xFDEF or ord(character) & 0xFFFE == 0xFFFE)  # a noncharacter
    return category == "Co" or category[0] not in "CZ"


def _file_name(text: str) -> str:
    _name(text)
    for character in "/\\":
        if character in text:
            raise ValueError(f'A file name must not contain "{character}".')
    if text in {".", ".."}:
        raise ValueError(f'"{text}" is not a file name.')
    return text


def _email(text: str) -> str:
    address = parse_email(text)
    return f"{address.local_part}@{address.domain}"


def normalized_password(password: str) -> str:
    """The password as it is hashed: OpaqueString of RFC 8265, 4.2 (spaces are U+0020, NFC), without its exclusions.

    So a password is the same from every keyboard, and any Unicode text can be one.
    """
    spaces = "".join(" " if unicodedata.category(each) == "Zs" else each for each in password)
    return unicodedata.normalize("NFC", spaces)


def _password(value: object) -> object:
    """Before pydantic wraps it, so that the length is that of the normalized form."""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return normalized_password(value) if isinstance(value, str) else value


def _six_digits(text: str) -> str:
    """Digits of any script: keyboards of some languages write them (U+FF11 is 1)."""
    code = "".join(str(unicodedata.decimal(each, each)) for each in text if not each.isspace())
    if len(code) != 6 or not (code.isascii() and code.isdigit()):
        raise ValueError("A code has six digits.")
    return code


def _checksum(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise ValueError("Give the SHA-256 as 64 hexadecimal digits.")
    return text.lower()


_LANGUAGE_TAG = re.compile(
    r"""(?:
        [a-z]{2,3}(?:-[a-z]{3}){0,3}                         # language; extended languages
        (?:-[a-z]{4})?                                       # script
        (?:-(?:[a-z]{2}|[0-9]{3}))?                          # region
        (?P<variants>(?:-(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*)
        (?P<extensions>(?:-[0-9a-wyz](?:-[a-z0-9]{2,8})+)*)
        (?:-x(?:-[a-z0-9]{1,8})+)?                           # for private use
      | x(?:-[a-z0-9]{1,8})+
    )""",
    re.ASCII | re.VERBOSE,
)
_GRANDFATHERED_TAGS = frozenset(
    (
        "en-gb-oed",
        "i-ami",
        "i-bnn",
        "i-default",
        "i-enochian",
        "i-hak",
        "i-klingon",
        "i-lux",
        "i-mingo",
        "i-navajo",
        "i-pwn",
        "i-tao",
        "i-tay",
        "i-tsu",
        "sgn-be-fr",
        "sgn-be-nl",
        "sgn-ch-de",
        "art-lojban",
        "cel-gaulish",
        "no-bok",
        "no-nyn",
        "zh-guoyu",
        "zh-hakka",
        "zh-min",
        "zh-min-nan",
        "zh-xiang",
    )
)
"""RFC 5646, 2.1; those that are also regular tags are left out."""


def _language_tag(text: str) -> str:
    tag = text.lower()
    match = _LANGUAGE_TAG.fullmatch(tag)
    if not match and tag not in _GRANDFATHERED_TAGS:
        raise ValueError('Give a language tag such as "en" or "de-AT".')
    if match:
        variants = (match["variants"] or "").split("-")[1:]
        singletons = re.findall(r"-([0-9a-wyz])(?=-)", match["extensions"] or "")
        for repeated in (variants, singletons):
            if len(set(repeated)) != len(repeated):
                raise ValueError("A language tag must not repeat a part (RFC 5646, 2.2).")
    return text


def _time_zones() -> Mapping[str, str]:
    """All names of the IANA time zone database, links included, by their lower case (names are ASCII and ignore case).

    ``Factory`` is not a place: ``Intl`` does not know it.
    """
    names = (importlib.resources.files("tzdata") / "zones").read_text().split()
    return MappingProxyType({name.lower(): name for name in names if name != "Factory"})


_TIME_ZONES = _time_zones()


def _time_zone(text: str) -> str:
    """In the spelling of the database: ``europe/vienna`` is ``Europe/Vienna``. A link stays the link."""
    name = _TIME_ZONES.get(text.lower()) if text.isascii() else None
    if name is None:
        raise ValueError('Give a time zone such as "Europe/Vienna".')
    return name


def _media_type(text: str) -> str:
    return str(parse_media_type(text))


def _trimmed(shortest: int, longest: int) -> StringConstraints:
    return StringConstraints(strip_whitespace=True, min_length=shortest, max_length=longest)


Id = Annotated[str, _trimmed(1, 200), AfterValidator(_no_control_characters)]
IdempotencyKey = Annotated[str, _trimmed(1, 200), AfterValidator(_no_control_characters)]
Cursor = Annotated[str, _trimmed(1, 500)]
Name = Annotated[str, _trimmed(1, MAX_NAME), AfterValidator(_name)]
FileName = Annotated[str, _trimmed(1, MAX_FILE_NAME), AfterValidator(_file_name)]
Email = Annotated[str, _trimmed(1, 1000), AfterValidator(_email)]
Password = Annotated[SecretStr, Field(min_length=1, max_length=256), BeforeValidator(_password)]
NewPassword = Annotated[SecretStr, Field(min_length=8, max_length=256), BeforeValidator(_password)]
"""Length alone counts (NIST SP 800-63B, 3.1.1.2): eight characters or more, of whatever kind."""
SearchText = Annotated[str, _trimmed(1, 320), AfterValidator(_no_control_characters)]
"""Part of a name or an address, which have at most 320 characters."""
Code = Annotated[str, _trimmed(1, 20), AfterValidator(_six_digits)]
Checksum = Annotated[str, _trimmed(1, 1000), AfterValidator(_checksum)]
MediaType = Annotated[str, _trimmed(1, 1000), AfterValidator(_media_type)]
LanguageTag = Annotated[str, _trimmed(1, MAX_LANGUAGE_TAG), AfterValidator(_language_tag)]
TimeZone = Annotated[str, _trimmed(1, 64), AfterValidator(_time_zone)]
First = Annotated[int, Field(ge=0, le=100)]
WaitSeconds = Annotated[float, Field(ge=0, le=30, allow_inf_nan=False)]

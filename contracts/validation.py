"""Validated types for the values that clients send: one annotated type per kind of value, for gateway and services.

Each type removes surrounding whitespace (except from passwords) and reports the reason if a value is invalid. It keeps
the value as it was entered, unless its standard defines a canonical spelling. Lengths are in Unicode code points,
unless a message says octets. ``tests/contracts/test_validation.py`` lists each kind with its standard, examples and
messages.
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

MAX_NAME_LENGTH = 200
MAX_FILE_NAME_LENGTH = 255
MAX_LANGUAGE_TAG_LENGTH = 35
"""RFC 5646, 4.4.1: the length of the longest tag that consists of registered subtags."""

_EMPTY_MESSAGE = "This must not be empty."
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
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)
"""Letters, marks and symbols that are displayed as nothing: the code points of Unicode's property
Default_Ignorable_Code_Point that are not of category Cf, and the empty Braille pattern.
"""


def validate(model: type[Model], values: Mapping[str, object], *, at: tuple[str, ...] = ()) -> Model:
    """Validate the values and return the model.

    Args:
        model: The class of the model.
        values: The values by field name.
        at: The path of the values within the input, for the paths in the error.

    Raises:
        InvalidInput: Values are invalid; ``fields`` contains the path and the message of each invalid field.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise invalid_input(error, at=at) from None  # pydantic's error contains the values, which may be passwords


def invalid_input(error: ValidationError, *, at: tuple[str, ...] = ()) -> InvalidInput:
    """Convert an error of pydantic into InvalidInput, with messages for users and paths of the GraphQL schema."""
    fields = tuple(
        FieldError(path=(*at, *_path(problem["loc"])), message=_message(problem))
        for problem in error.errors(include_url=False, include_input=False)
    )
    return InvalidInput(fields[0].message if len(fields) == 1 else None, fields=fields)


def _path(location: tuple[int | str, ...]) -> tuple[str, ...]:
    return tuple(to_camel(part) if isinstance(part, str) else str(part) for part in location)


def _message(problem: object) -> str:
    assert isinstance(problem, dict)
    context = problem.get("ctx", {})
    if problem["type"] == "value_error":
        return str(context["error"])
    if context.get("min_length") == 1:
        return _EMPTY_MESSAGE
    return _MESSAGES.get(problem["type"], "This is not valid.").format(**context)


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
        raise ValueError(_EMPTY_MESSAGE)
    return text


def _is_visible(character: str) -> bool:
    """Return whether a character may be visible; unassigned and private-use characters may be."""
    category = unicodedata.category(character)
    if _INVISIBLE.match(character):
        return False
    if category == "Cn":
        return not (0xFDD0 <= ord(character) <= 0xFDEF or ord(character) & 0xFFFE == 0xFFFE)  # noncharacters
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
    """Return the password in the form in which it is hashed, so that it is the same from every keyboard.

    The form is OpaqueString of RFC 8265, 4.2: all spaces become U+0020, and the text is normalized by NFC. The
    characters that the RFC excludes are allowed.
    """
    spaces = "".join(" " if unicodedata.category(each) == "Zs" else each for each in password)
    return unicodedata.normalize("NFC", spaces)


def _password(value: object) -> object:
    """Normalize a password before pydantic checks its length."""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return normalized_password(value) if isinstance(value, str) else value


def _six_digits(text: str) -> str:
    """Return a code as six ASCII digits. Digits of any script are accepted, as some keyboards produce them (U+FF11)."""
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
"""The grandfathered tags of RFC 5646, 2.1, without those that are also regular tags."""


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
    """Return all names of the IANA time zone database, including links, by their lower-case form.

    ``Factory`` is left out because ``Intl`` in browsers does not support it.
    """
    names = (importlib.resources.files("tzdata") / "zones").read_text().split()
    return MappingProxyType({name.lower(): name for name in names if name != "Factory"})


_TIME_ZONES = _time_zones()


def _time_zone(text: str) -> str:
    """Return a time zone in the spelling of the database: ``europe/vienna`` becomes ``Europe/Vienna``."""
    name = _TIME_ZONES.get(text.lower()) if text.isascii() else None
    if name is None:
        raise ValueError('Give a time zone such as "Europe/Vienna".')
    return name


def _media_type(text: str) -> str:
    return str(parse_media_type(text))


def _trimmed(min_length: int, max_length: int) -> StringConstraints:
    return StringConstraints(strip_whitespace=True, min_length=min_length, max_length=max_length)


Id = Annotated[str, _trimmed(1, 200), AfterValidator(_no_control_characters)]
IdempotencyKey = Annotated[str, _trimmed(1, 200), AfterValidator(_no_control_characters)]
Cursor = Annotated[str, _trimmed(1, 500)]
Name = Annotated[str, _trimmed(1, MAX_NAME_LENGTH), AfterValidator(_name)]
FileName = Annotated[str, _trimmed(1, MAX_FILE_NAME_LENGTH), AfterValidator(_file_name)]
Email = Annotated[str, _trimmed(1, 1000), AfterValidator(_email)]
Password = Annotated[SecretStr, Field(min_length=1, max_length=256), BeforeValidator(_password)]
NewPassword = Annotated[SecretStr, Field(min_length=8, max_length=256), BeforeValidator(_password)]
"""The only rule for new passwords is a length of eight characters or more (NIST SP 800-63B, 3.1.1.2)."""
SearchText = Annotated[str, _trimmed(1, 320), AfterValidator(_no_control_characters)]
"""A part of a name or an e-mail address, which have at most 320 characters."""
Code = Annotated[str, _trimmed(1, 20), AfterValidator(_six_digits)]
Checksum = Annotated[str, _trimmed(1, 1000), AfterValidator(_checksum)]
MediaType = Annotated[str, _trimmed(1, 1000), AfterValidator(_media_type)]
LanguageTag = Annotated[str, _trimmed(1, MAX_LANGUAGE_TAG_LENGTH), AfterValidator(_language_tag)]
TimeZone = Annotated[str, _trimmed(1, 64), AfterValidator(_time_zone)]
First = Annotated[int, Field(ge=0, le=100)]
WaitSeconds = Annotated[float, Field(ge=0, le=30, allow_inf_nan=False)]

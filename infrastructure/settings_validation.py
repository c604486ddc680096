"""Where a process runs, and all that is wrong with what its environment says, told at once and without values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TypeVar
from urllib.parse import urlsplit

from pydantic import ModelWrapValidatorHandler, SecretStr, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from infrastructure.temporal.codec import KeyRing

Settings = TypeVar("Settings")


class Environment(StrEnum):
    DEVELOPMENT = "development"
    PRODUCTION = "production"


def is_production(told: Mapping[str, object]) -> bool:
    return told.get("environment") == Environment.PRODUCTION


def valid_key_ring(keys: SecretStr) -> SecretStr:
    """The same, if a KeyRing can be read from it; ValueError."""
    KeyRing.parse(keys.get_secret_value())
    return keys


DEVELOPMENT_APP_URL = "http://127.0.0.1:5173"
"""Where ``make web`` serves the example page."""


def valid_app_url(url: str) -> str:
    """Return the same value if links can begin with it. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an absolute address such as https://app.example.com")
    return url


def app_url_or_default(app_url: str | None, environment: Environment) -> str:
    """Return what links to the product begin with: in production without ``APP_URL`` nothing, so they are paths."""
    return app_url or (DEVELOPMENT_APP_URL if environment is Environment.DEVELOPMENT else "")


def without_encryption(told: Mapping[str, object]) -> Iterable[str]:
    """The fault of a process in production that would write in clear into Temporal."""
    if is_production(told) and not told.get("codec_keys"):
        yield "CODEC_KEYS must be set in production: what Temporal stores would not be encrypted"


def validate_all(
    told: Mapping[str, object], read: ModelWrapValidatorHandler[Settings], faults: Iterable[str]
) -> Settings:
    """The settings; ValidationError with those of single values and ``faults``, which are about several, together."""
    found = [InitErrorDetails(type=_fault(each), loc=(), input=None) for each in faults]
    try:
        settings = read(told)
    except ValidationError as error:
        of_values = [
            InitErrorDetails(type=_fault(each["msg"]), loc=each["loc"], input=None)
            for each in error.errors(include_url=False, include_input=False)
        ]
        raise ValidationError.from_exception_data(error.title, [*of_values, *found]) from None
    if found:
        raise ValidationError.from_exception_data(type(settings).__name__, found)
    return settings


def format_errors(error: ValidationError) -> str:
    """The settings that are missing or wrong, in one sentence that shows no value."""
    problems = (
        f"{'_'.join(map(str, problem['loc'])).upper()} {problem['msg']}".strip().rstrip(".")
        for problem in error.errors(include_url=False, include_input=False)
    )
    return f"The environment is not right: {'; '.join(problems)}."


def _fault(message: str) -> PydanticCustomError:
    return PydanticCustomError("environment", "{message}", {"message": message})

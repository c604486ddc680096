"""Validation of a process's settings: all errors are reported together, and no message contains a value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, ModelWrapValidatorHandler, SecretStr, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from infrastructure.temporal.codec import KeyRing

Settings = TypeVar("Settings")


class Environment(StrEnum):
    """Where a process runs (setting ``ENVIRONMENT``); production requires more settings."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


def is_production(values: Mapping[str, object]) -> bool:
    """Return whether the values of the settings name production as the environment."""
    return values.get("environment") == Environment.PRODUCTION


def valid_key_ring(keys: SecretStr) -> SecretStr:
    """Return the value unchanged if it is a valid list of encryption keys.

    Raises:
        ValueError: ``KeyRing.parse`` does not accept the value.
    """
    KeyRing.parse(keys.get_secret_value())
    return keys


DEVELOPMENT_APP_URL = "http://127.0.0.1:5173"
"""Where ``make web`` serves the example page."""


def valid_app_url(url: str) -> str:
    """Return the value unchanged if it is an absolute http(s) URL to which a path can be appended.

    Raises:
        ValueError: The value is not such a URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an absolute address such as https://app.example.com")
    return url


def app_url_or_default(app_url: str | None, environment: Environment) -> str:
    """Return the base URL of links to the product.

    In production without ``APP_URL`` it is empty, so that links are paths.
    """
    return app_url or (DEVELOPMENT_APP_URL if environment is Environment.DEVELOPMENT else "")


def missing_encryption_errors(values: Mapping[str, object]) -> Iterable[str]:
    """Yield an error message if a process in production has no keys to encrypt the data that Temporal stores."""
    if is_production(values) and not values.get("codec_keys"):
        yield "CODEC_KEYS must be set in production: what Temporal stores would not be encrypted"


def validate_all(
    values: Mapping[str, object], validate: ModelWrapValidatorHandler[Settings], messages: Iterable[str]
) -> Settings:
    """Validate the settings and report all errors together.

    Args:
        values: The values of the settings.
        validate: Pydantic's handler, which validates each setting by itself.
        messages: Messages of errors that concern several settings.

    Raises:
        ValidationError: A setting is invalid, or there are messages.
    """
    cross_field_errors = [InitErrorDetails(type=_custom_error(each), loc=(), input=None) for each in messages]
    try:
        settings = validate(values)
    except ValidationError as error:
        field_errors = [
            InitErrorDetails(type=_custom_error(each["msg"]), loc=each["loc"], input=None)
            for each in error.errors(include_url=False, include_input=False)
        ]
        raise ValidationError.from_exception_data(error.title, [*field_errors, *cross_field_errors]) from None
    if cross_field_errors:
        raise ValidationError.from_exception_data(type(settings).__name__, cross_field_errors)
    return settings


def format_errors(error: ValidationError) -> str:
    """Return one sentence that lists the missing and invalid settings without their values."""
    problems = (
        f"{'_'.join(map(str, problem['loc'])).upper()} {problem['msg']}".strip().rstrip(".")
        for problem in error.errors(include_url=False, include_input=False)
    )
    return f"The environment is not right: {'; '.join(problems)}."


def _custom_error(message: str) -> PydanticCustomError:
    return PydanticCustomError("environment", "{message}", {"message": message})


_REDIS_SCHEMES = ("redis", "rediss", "unix")


def _valid_redis_url(url: str) -> str:
    if urlsplit(url).scheme not in _REDIS_SCHEMES:
        raise ValueError("must be the URL of a Redis: redis://HOST:PORT, rediss://HOST:PORT or unix:///SOCKET")
    return url


def _valid_secret_redis_url(url: SecretStr) -> SecretStr:
    _valid_redis_url(url.get_secret_value())
    return url


def _valid_database_url(url: SecretStr) -> SecretStr:
    parts = urlsplit(url.get_secret_value())
    if parts.scheme not in ("sqlite", "postgres", "asyncpg") or not (parts.netloc or parts.path):
        raise ValueError("must be the URL of a database: sqlite://FILE or postgres://USER:PASSWORD@HOST/NAME")
    return url


RedisUrl = Annotated[str, AfterValidator(_valid_redis_url)]
SecretRedisUrl = Annotated[SecretStr, AfterValidator(_valid_secret_redis_url)]
SecretDatabaseUrl = Annotated[SecretStr, AfterValidator(_valid_database_url)]

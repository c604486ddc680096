"""Reasons for which a process cannot start, each with a message for the operator, and validated addresses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr

_REDIS_SCHEMES = ("redis", "rediss", "unix")


class StartFailure(RuntimeError):
    """The process cannot start; the message says why, without secrets."""


class TemporalUnreachable(StartFailure):
    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"Temporal does not answer at {address} (TEMPORAL_ADDRESS): {reason}.")


class DatabaseUnusable(StartFailure):
    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"The database {where} (DATABASE_URL) cannot be used: {reason}.")


class FolderUnusable(StartFailure):
    def __init__(self, folder: Path, variables: str, reason: str) -> None:
        super().__init__(f"The folder {folder} ({variables}) cannot be used: {reason}.")


def usable_folder(folder: Path, variables: str) -> Path:
    """Return the folder, made where it is missing.

    Raises:
        FolderUnusable: it cannot be made or written to.
    """
    probe = folder / ".is-writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise FolderUnusable(folder, variables, reason_of(error)) from error
    return folder


def reason_of(error: BaseException) -> str:
    """Return the error in one line, without a full stop at its end."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return text.strip().splitlines()[0].rstrip(".")


def _valid_redis_url(url: str) -> str:
    if urlsplit(url).scheme not in _REDIS_SCHEMES:
        raise ValueError("names no Redis: redis://HOST:PORT, rediss://HOST:PORT or unix:///SOCKET")
    return url


def _valid_secret_redis_url(url: SecretStr) -> SecretStr:
    _valid_redis_url(url.get_secret_value())
    return url


def _valid_database_url(url: SecretStr) -> SecretStr:
    parts = urlsplit(url.get_secret_value())
    if parts.scheme not in ("sqlite", "postgres", "asyncpg") or not (parts.netloc or parts.path):
        raise ValueError("names no database: sqlite://FILE or postgres://USER:PASSWORD@HOST/NAME")
    return url


RedisUrl = Annotated[str, AfterValidator(_valid_redis_url)]
SecretRedisUrl = Annotated[SecretStr, AfterValidator(_valid_secret_redis_url)]
SecretDatabaseUrl = Annotated[SecretStr, AfterValidator(_valid_database_url)]

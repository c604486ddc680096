"""Errors that prevent a process from starting, each with a message for the operator."""

from __future__ import annotations

from pathlib import Path


class StartFailure(RuntimeError):
    """The process cannot start. The message states the reason and contains no secrets."""


class TemporalUnreachable(StartFailure):
    """The process cannot connect to Temporal."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"Temporal does not answer at {address} (TEMPORAL_ADDRESS): {reason}.")


class DatabaseUnusable(StartFailure):
    """The process cannot open or reach its database."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"The database {where} (DATABASE_URL) cannot be used: {reason}.")


class FolderUnusable(StartFailure):
    """The process cannot create a folder or write to it. ``variables``: the settings that name the folder."""

    def __init__(self, folder: Path, variables: str, reason: str) -> None:
        super().__init__(f"The folder {folder} ({variables}) cannot be used: {reason}.")


def ensure_writable_folder(folder: Path, variables: str) -> Path:
    """Create the folder if it does not exist, check that it is writable, and return it.

    Args:
        folder: The folder.
        variables: The settings that name the folder, for the error message.

    Raises:
        FolderUnusable: The folder cannot be created or written to.
    """
    probe = folder / ".is-writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise FolderUnusable(folder, variables, error_reason(error)) from error
    return folder


def error_reason(error: BaseException) -> str:
    """Return the message of an error as one line without a full stop at its end."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return text.strip().splitlines()[0].rstrip(".")

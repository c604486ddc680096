"""The data folder of ``make dev``: its lock, the version of its format, and the generated secret keys."""

from __future__ import annotations

import base64
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contracts.base import Contract

DATA_VERSION = "0.2.0"
"""The version of the data in the folder (histories and tables). It changes when older data becomes unreadable."""


class DataDirUnusable(Exception):
    """The folder cannot be used: not writable, in use by another process, or of another version."""


class DevKeys(Contract):
    """The generated keys: of the gateway, of the calls to services, and of the payload codec (text of a KeyRing)."""

    secret_key: str
    service_key: str
    codec_keys: str


@contextmanager
def lock_data_dir(path: Path) -> Iterator[None]:
    """Create the folder if necessary and lock it for this process. Raises DataDirUnusable."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (path / "lock").open("w")
    except OSError as error:
        raise DataDirUnusable(f"{path} is not writable ({error.strerror}): set DATA_DIR to another folder.") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataDirUnusable(
                f"Another stack runs on {path}: stop it, or set DATA_DIR to another folder."
            ) from None
        _check_version(path)
        yield


def _check_version(path: Path) -> None:
    """Write the version into a new folder. Raises DataDirUnusable if the folder has data of another version."""
    file = path / "version"
    if not file.exists() and not (path / "keys.json").exists():
        file.write_text(f"{DATA_VERSION}\n")
    if not file.exists() or file.read_text().strip() != DATA_VERSION:
        raise DataDirUnusable(
            f"{path} holds data of another version, which is not kept: delete it, or set DATA_DIR to another folder."
        )


def load_or_create_keys(path: Path) -> DevKeys:
    """Return the keys of the folder, generated at the first call; only the owner of the file may read it."""
    file = path / "keys.json"
    if not file.exists():
        new = DevKeys(
            secret_key=secrets.token_hex(32),
            service_key=secrets.token_hex(32),
            codec_keys=f"dev:{base64.b64encode(secrets.token_bytes(32)).decode()}",
        )
        draft = file.with_suffix(".new")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as output:
            output.write(new.model_dump_json())
        draft.rename(file)  # atomic, so that a file is complete
    return DevKeys.model_validate_json(file.read_text())

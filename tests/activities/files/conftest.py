"""A folder to keep files in, and the services on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from infrastructure.storage import FileStorage, open_storage
from tests.activities.conftest import Clock
from tests.activities.files.file_fixtures import FileServices


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def storage(folder: Path) -> FileStorage:
    return open_storage(folder.as_uri())


@pytest.fixture
def services(storage: FileStorage, clock: Clock) -> FileServices:
    return FileServices(storage, clock)

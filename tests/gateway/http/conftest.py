"""A storage of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.storage import FileStorage
from tests.gateway.http.stores import KINDS, Bucket, Folder, Store, opened
from tests.s3 import running_s3


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as environment, running_s3(tmp_path_factory.mktemp("s3")) as endpoint:
        environment.setenv("AWS_ACCESS_KEY_ID", "any")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "any")
        yield endpoint


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return Folder(tmp_path / "objects")
    return Bucket(request.getfixturevalue("s3_endpoint"))


@pytest.fixture
def storage(store: Store) -> FileStorage:
    return opened(store)

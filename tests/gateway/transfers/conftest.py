"""Fixtures: one storage of each kind, the files service, and a server of transfers."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from infrastructure.storage import FileStorage
from resolvers.clients.files import FilesClient
from tests.databases import create_sqlite_database
from tests.gateway.transfers.files_service import files_client
from tests.gateway.transfers.stores import KINDS, Bucket, Folder, Store, storage_of
from tests.s3 import running_s3
from tests.servers import HOST, wait_until
from worker.dev.ports import free_port
from worker.dev.subprocesses import child_process


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an S3 server; credentials for it are in the environment."""
    with pytest.MonkeyPatch.context() as environment, running_s3(tmp_path_factory.mktemp("s3")) as endpoint:
        environment.setenv("AWS_ACCESS_KEY_ID", "any")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "any")
        yield endpoint


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind."""
    if request.param == "folder":
        return Folder(tmp_path / "objects")
    return Bucket(request.getfixturevalue("s3_endpoint"))


@pytest.fixture
def storage(store: Store) -> FileStorage:
    """The open storage of the store."""
    return storage_of(store)


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[FilesClient]:
    """A client of the real files service on an empty database."""
    async with files_client(await create_sqlite_database(tmp_path)) as files:
        yield files


@pytest.fixture(scope="module", params=KINDS)
def transfer_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Store]]:
    """The URL of a server process that serves transfers, and its store."""
    folder, port = tmp_path_factory.mktemp("served"), free_port(HOST)
    store: Store = Folder(folder / "objects")
    if request.param == "s3":
        store = Bucket(request.getfixturevalue("s3_endpoint"))
    log = folder / "log"
    command = [sys.executable, "-m", "tests.gateway.transfers.transfers_server", store.url, str(folder), str(port)]
    with child_process(command, log=log) as process:
        url = f"http://{HOST}:{port}"
        wait_until(lambda: _answers(port), process, log)
        yield url, store


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://{HOST}:{port}/peak", timeout=5).status_code == 200
    except httpx.TransportError:
        return False

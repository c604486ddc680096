"""The two kinds of file storage, a folder and an S3 bucket, and a listing of their content."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from infrastructure.storage import FileStorage, open_storage
from tests.s3 import BUCKET

KINDS = ("folder", "s3")


class Store(Protocol):
    """A file storage; ``url`` has the form of STORAGE_URL."""

    url: str

    def content(self) -> set[str]:
        """Return the names of all objects, including unfinished writes."""


class Folder:
    """A store in a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.url = path.as_uri()

    def content(self) -> set[str]:
        return {str(path) for path in self._path.rglob("*") if path.is_file()}


class Bucket:
    """A store in a bucket, under a prefix of its own."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._prefix = uuid4().hex
        self.url = f"s3://{BUCKET}/{self._prefix}?endpoint={endpoint}&region=eu-central-1"

    def content(self) -> set[str]:
        found: set[str] = set()
        for listing in (f"list-type=2&prefix={self._prefix}", "uploads"):
            with urllib.request.urlopen(f"{self._endpoint}/{BUCKET}?{listing}", timeout=5) as response:
                found.update(re.findall(rf"<Key>({self._prefix}[^<]*)</Key>", response.read().decode()))
        return found


def storage_of(store: Store) -> FileStorage:
    """Open the storage of the store."""
    return open_storage(store.url)

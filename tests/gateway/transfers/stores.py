"""The two kinds of storage, each of them real, and what lies in one."""

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
    """``url`` is as in STORAGE_URL."""

    url: str

    def content(self) -> set[str]:
        """All that is kept there, unfinished writes included."""


class Folder:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.url = path.as_uri()

    def content(self) -> set[str]:
        return {str(path) for path in self._path.rglob("*") if path.is_file()}


class Bucket:
    """A prefix of its own in the bucket."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._prefix = uuid4().hex
        self.url = f"s3://{BUCKET}/{self._prefix}?endpoint={endpoint}&region=eu-central-1"

    def content(self) -> set[str]:
        found: set[str] = set()
        for listing in (f"list-type=2&prefix={self._prefix}", "uploads"):
            with urllib.request.urlopen(f"{self._endpoint}/{BUCKET}?{listing}", timeout=5) as answer:
                found.update(re.findall(rf"<Key>({self._prefix}[^<]*)</Key>", answer.read().decode()))
        return found


def opened(store: Store) -> FileStorage:
    return open_storage(store.url)

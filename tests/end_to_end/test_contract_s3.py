"""Files in S3: clients upload and download through the gateway and never connect to the storage."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.end_to_end.client import Client
from tests.end_to_end.files import complete_upload, create_upload, process_file, send_bytes
from tests.s3 import BUCKET, running_s3
from tests.stack import Stack, start_separate_stack

TEXT = b"one two\nthree\n" * 100


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an S3 server."""
    with running_s3(tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def stack_on_s3(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A separate stack that stores files in S3."""
    storage = f"s3://{BUCKET}/files?endpoint={endpoint}&region=us-east-1"
    credentials = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    with start_separate_stack(tmp_path_factory.mktemp("stack"), STORAGE_URL=storage, **credentials) as stack:
        yield stack


async def test_uploads_and_downloads_a_file_through_the_gateway(stack_on_s3: Stack) -> None:
    ada = Client(stack_on_s3)
    await ada.log_in("ada@example.com")
    target = await create_upload(ada, TEXT)
    assert target["url"].startswith(f"{stack_on_s3.url}/uploads/")
    assert (await send_bytes(target, TEXT)).status_code == 200
    operation = await complete_upload(ada, target["id"])
    assert operation["status"] == "COMPLETED", operation

    read = await process_file(ada, operation["result"]["file"]["id"])
    file = read["result"]["file"]
    assert file["metadata"] == {"lines": 200, "words": 300, "bytes": len(TEXT)}
    assert file["downloadUrl"].startswith(f"{stack_on_s3.url}/downloads/")
    async with httpx.AsyncClient() as http_client:
        fetched = await http_client.get(file["downloadUrl"])
    assert fetched.content == TEXT
    assert fetched.headers["content-disposition"].startswith("attachment; ")

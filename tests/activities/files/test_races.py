"""Two at once on one row of PostgreSQL, where each waits for the other: room, records and metadata stay right."""

from __future__ import annotations

import asyncio

import pytest

from activities.files import models
from activities.files.quotas import MIB
from activities.files.uploading import delete_record
from activities.transactions import atomic
from contracts.base import new_id
from contracts.errors import InvalidInput
from contracts.files import MetadataPublication, NewUpload, TextMetadata
from contracts.tenants import SubscriptionTier
from tests.activities.files.file_fixtures import FileServices, caller
from tests.activities.locks import held_row

pytestmark = pytest.mark.usefixtures("postgres_database")


async def test_second_concurrent_reservation_counts_the_first(services: FileServices, shared_postgres_url: str) -> None:
    tenant, tier = new_id("ten"), SubscriptionTier.FREE
    new = NewUpload(name="a.txt", content_type="text/plain", size=10 * MIB, tier=tier)
    await models.Usage.create(tenant_id=tenant, bytes=100 * MIB - 15 * MIB)
    async with held_row(shared_postgres_url, "files_usage", "tenant_id", tenant) as row:
        asking = [await row.queue(services.files.create_upload(caller(tenant), new)) for _ in range(2)]
    granted, refused = await asyncio.gather(*asking, return_exceptions=True)

    assert not isinstance(granted, BaseException)
    assert isinstance(refused, InvalidInput)


async def test_concurrent_removals_release_the_storage_once(services: FileServices, shared_postgres_url: str) -> None:
    sender = caller()
    await services.create_file(sender, b"stays")
    file_id = await services.create_file(sender, b"goes")
    async with held_row(shared_postgres_url, "files_file", "id", file_id) as row:
        removing = [await row.queue(atomic(lambda: delete_record(file_id))) for _ in range(2)]
    await asyncio.gather(*removing)

    assert (await models.Usage.get(tenant_id=sender.tenant_id)).bytes == len(b"stays")


async def test_undo_of_the_second_publication_restores_the_first(
    services: FileServices, shared_postgres_url: str
) -> None:
    owner = caller()
    file_id = await services.create_file(owner, b"one two")
    publications = [
        MetadataPublication(
            key=f"op{count}:publish",
            file_id=file_id,
            tenant_id=owner.tenant_id or "",
            metadata=TextMetadata(lines=1, words=count, bytes=7),
        )
        for count in (1, 2)
    ]
    async with held_row(shared_postgres_url, "files_file", "id", file_id) as row:
        publishing = [await row.queue(services.processing.publish_metadata(each)) for each in publications]
    await asyncio.gather(*publishing)
    await services.processing.undo_publish_metadata("op2:publish")

    [file] = await services.files.get_files(owner, [file_id])
    assert file.metadata == publications[0].metadata

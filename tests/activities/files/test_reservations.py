"""What one user reserves leaves the others of the tenant room, and lapses soon without bytes."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from activities.files import models
from activities.files.quotas import GIB, MIB
from contracts.base import new_id
from contracts.callers import Caller
from contracts.errors import InvalidInput, RateLimited, UploadCompleted, UploadNotFound
from contracts.files import NewFile, NewUpload
from contracts.tenants import SubscriptionTier
from contracts.transfer_grants import UploadGrant
from tests.activities.conftest import Clock
from tests.activities.files.file_fixtures import FileServices, caller, ignore_progress

pytestmark = pytest.mark.usefixtures("any_database")


def upload(size: int, tier: SubscriptionTier = SubscriptionTier.FREE) -> NewUpload:
    return NewUpload(name="a.txt", content_type="text/plain", size=size, tier=tier)


async def reserve_until_refused(services: FileServices, sender: Caller, size: int, tier: SubscriptionTier) -> int:
    """How many uploads without bytes one user is granted."""
    granted = 0
    try:
        while granted < 200:
            await services.files.create_upload(sender, upload(size, tier))
            granted += 1
    except (InvalidInput, RateLimited):
        pass
    return granted


async def test_user_reserves_at_most_a_quarter_of_the_free_storage(services: FileServices) -> None:
    tenant, tier = new_id("ten"), SubscriptionTier.PROFESSIONAL
    assert await reserve_until_refused(services, caller(tenant), GIB, tier) == 25
    assert await reserve_until_refused(services, caller(tenant), GIB, tier) == 25
    assert await services.files.create_upload(caller(tenant), upload(GIB, tier))


async def test_first_upload_of_a_user_may_reserve_all_free_storage(services: FileServices) -> None:
    sender = caller()
    await models.Usage.create(tenant_id=sender.tenant_id, bytes=100 * MIB - 5 * MIB)
    assert await services.files.create_upload(sender, upload(5 * MIB))
    with pytest.raises(InvalidInput):
        await services.files.create_upload(sender, upload(1))


async def test_user_has_at_most_100_open_uploads(services: FileServices) -> None:
    tenant = new_id("ten")
    assert await reserve_until_refused(services, caller(tenant), 0, SubscriptionTier.FREE) == 100
    assert await services.files.create_upload(caller(tenant), upload(0))


async def test_reservation_expires_without_bytes_and_can_be_renewed(services: FileServices, clock: Clock) -> None:
    tenant = new_id("ten")
    sender, other = caller(tenant), caller(tenant)
    target = await services.files.create_upload(sender, upload(10 * MIB))
    await models.Usage.filter(tenant_id=tenant).update(bytes=100 * MIB - 15 * MIB)
    reservation_lifetime = timedelta(minutes=10)
    for _ in range(3):
        clock.advance(reservation_lifetime - timedelta(seconds=1))
        await services.files.reserve_upload(sender, target.id)
        with pytest.raises(InvalidInput):
            await services.files.create_upload(other, upload(6 * MIB))
    clock.advance(reservation_lifetime)
    assert await services.files.create_upload(other, upload(6 * MIB))
    with pytest.raises(InvalidInput):
        await services.files.reserve_upload(sender, target.id)


async def test_received_bytes_stay_reserved_until_rejected(services: FileServices, clock: Clock) -> None:
    tenant = new_id("ten")
    sender, other = caller(tenant), caller(tenant)
    command = await services.announce(sender, bytes(4 * MIB), tier=SubscriptionTier.FREE)  # no text: it will be refused
    await models.Usage.filter(tenant_id=tenant).update(bytes=100 * MIB - 5 * MIB)
    await services.store_staged_bytes(command, bytes(4 * MIB))
    await services.files.confirm_upload(sender, command.upload_id)
    clock.advance(timedelta(hours=3))
    with pytest.raises(InvalidInput):
        await services.files.create_upload(other, upload(2 * MIB))
    with pytest.raises(InvalidInput):
        await services.uploading.validate_file_upload(command, ignore_progress)
    assert await services.files.create_upload(other, upload(2 * MIB))


async def test_concurrent_reservations_never_exceed_the_storage(services: FileServices) -> None:
    tenant = new_id("ten")
    asked = (services.files.create_upload(caller(tenant), upload(10 * MIB)) for _ in range(20))
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(not isinstance(result, BaseException) for result in results) == 10
    assert all(isinstance(result, InvalidInput) for result in results if isinstance(result, BaseException))


async def test_only_the_creator_renews_and_only_before_completion(
    services: FileServices,
) -> None:
    sender = caller()
    command = await services.upload(sender, b"some text")
    for stranger in (caller(sender.tenant_id), caller(user_id=sender.user_id)):
        for call in (services.files.reserve_upload, services.files.confirm_upload):
            with pytest.raises(UploadNotFound):
                await call(stranger, command.upload_id)
    await services.create_record(command, "op:record")
    with pytest.raises(UploadCompleted):
        await services.files.reserve_upload(sender, command.upload_id)


@pytest.mark.parametrize(
    ("tier", "of_a_file", "in_all"),
    [
        (SubscriptionTier.FREE, 10 * MIB, 100 * MIB),
        (SubscriptionTier.PROFESSIONAL, GIB, 100 * GIB),
        (SubscriptionTier.ENTERPRISE, 5 * GIB, 1024 * GIB),
    ],
)
async def test_each_tier_has_exact_limits(
    services: FileServices, tier: SubscriptionTier, of_a_file: int, in_all: int
) -> None:
    sender, other = caller(), caller()
    with pytest.raises(InvalidInput):
        await services.files.create_upload(sender, upload(of_a_file + 1, tier))
    assert await services.files.create_upload(sender, upload(of_a_file, tier))
    await models.Usage.create(tenant_id=other.tenant_id, bytes=in_all - 1)
    with pytest.raises(InvalidInput):
        await services.files.create_upload(other, upload(2, tier))
    assert await services.files.create_upload(other, upload(1, tier))


async def test_last_free_byte_can_be_reserved_and_no_more(services: FileServices) -> None:
    sender = caller()
    await models.Usage.create(tenant_id=sender.tenant_id, bytes=100 * MIB - 100)
    with pytest.raises(InvalidInput):
        await services.files.create_upload(sender, upload(101))
    assert await services.files.create_upload(sender, upload(100))


async def test_sizes_above_two_gib_are_exact(services: FileServices) -> None:
    """The bytes themselves are left out: the steps up to the record need their announced size only."""
    sender, tier = caller(), SubscriptionTier.ENTERPRISE
    size = 5 * GIB
    target = await services.files.create_upload(sender, upload(size, tier))
    grant = services.signer.read(target.url.rpartition("/")[2], UploadGrant)
    assert grant.size == (await models.Upload.get(id=target.id)).size == size
    assert (await services.files.get_upload(sender, target.id)).size == size
    new = NewFile(
        key="op:record",
        upload_id=target.id,
        tenant_id=sender.tenant_id or "",
        user_id=sender.user_id or "",
        checksum="0" * 64,
    )
    file_id = (await services.uploading.create_file_record(new)).file_id
    assert (await models.File.get(id=file_id)).size == size
    assert (await models.Usage.get(tenant_id=sender.tenant_id)).bytes == size
    with pytest.raises(InvalidInput):
        await services.files.create_upload(sender, upload(size + 1, tier))

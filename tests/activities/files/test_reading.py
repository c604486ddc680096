"""Who sees which files, and the list of them, page by page."""

from __future__ import annotations

from datetime import timedelta

import pytest

from contracts.auth import Role
from contracts.base import new_id
from contracts.callers import Caller
from contracts.errors import NotSignedIn, PermissionDenied
from contracts.files import AccessLevel, FileCursor, FilePageRequest
from contracts.transfer_grants import DownloadGrant
from tests.activities.conftest import Clock
from tests.activities.files.file_fixtures import FileServices, caller

pytestmark = pytest.mark.usefixtures("any_database")


async def listed(services: FileServices, viewer: Caller) -> tuple[set[str], int]:
    page = await services.files.list_files(viewer, FilePageRequest(first=100))
    return {file.id for file in page.files}, page.total_count


async def test_private_file_is_visible_to_owner_and_administrators_only(
    services: FileServices,
) -> None:
    owner = caller()
    colleague, admin = caller(owner.tenant_id), caller(owner.tenant_id, Role.ADMIN)
    private = await services.create_file(owner, b"mine")
    shared = await services.create_file(owner, b"ours", access_level=AccessLevel.TENANT)
    for viewer, seen in ((owner, {private, shared}), (admin, {private, shared}), (colleague, {shared})):
        assert {file.id for file in await services.files.get_files(viewer, [private, shared])} == seen
        assert await listed(services, viewer) == (seen, len(seen))


async def test_owner_sees_no_own_files_from_another_tenant(services: FileServices) -> None:
    owner = caller()
    shared = await services.create_file(owner, b"ours", access_level=AccessLevel.TENANT)
    elsewhere = caller(role=Role.OWNER, user_id=owner.user_id)
    assert await services.files.get_files(elsewhere, [shared, new_id("fil")]) == []
    assert await listed(services, elsewhere) == (set(), 0)


async def test_files_are_returned_in_the_requested_order(services: FileServices) -> None:
    owner = caller()
    first, second = await services.create_file(owner, b"1"), await services.create_file(owner, b"2")
    asked = [second, new_id("fil"), "nonsense\0", "usr_" + first[4:], first, second]
    assert [file.id for file in await services.files.get_files(owner, asked)] == [second, first]


async def test_file_is_visible_after_its_permissions_are_set(services: FileServices) -> None:
    owner = caller()
    command = await services.upload(owner, b"soon")
    file_id = await services.create_record(command, "op:record")
    assert await services.files.get_files(owner, [file_id]) == []
    assert await listed(services, owner) == (set(), 0)


async def test_pages_are_newest_first_and_stable_while_files_are_added(services: FileServices, clock: Clock) -> None:
    owner = caller()
    kept = []
    for index in range(7):
        if index % 3 == 0:
            clock.advance(timedelta(microseconds=1))  # so that some share their moment
        kept.append(await services.create_file(owner, b"x"))
    seen: list[str] = []
    after = None
    while True:
        page = await services.files.list_files(owner, FilePageRequest(first=2, after=after))
        assert page.total_count == 7 + len(seen) // 2
        seen += [file.id for file in page.files]
        if not page.has_next_page:
            break
        after = FileCursor(uploaded_at=page.files[-1].uploaded_at, id=page.files[-1].id)
        clock.advance(timedelta(seconds=1))
        await services.create_file(owner, b"newer")
    moments = {file.id: (file.uploaded_at, file.id) for file in await services.files.get_files(owner, kept)}
    assert seen == sorted(kept, key=lambda each: moments[each], reverse=True)


async def test_download_link_is_valid_for_a_few_minutes(services: FileServices, clock: Clock) -> None:
    owner = caller()
    [file] = await services.files.get_files(owner, [await services.create_file(owner, b"bytes", name="b.txt")])
    [same] = await services.files.get_files(owner, [file.id])
    assert file == same
    path, _, token = file.download_url.rpartition("/")
    grant = services.signer.read(token, DownloadGrant)
    assert (path, grant.name, grant.size) == ("/downloads", "b.txt", 5)
    assert await services.storage.read(grant.storage_key, 0, 10) == b"bytes"
    clock.advance(timedelta(minutes=6))
    with pytest.raises(PermissionDenied):
        services.signer.read(token, DownloadGrant)


async def test_reading_requires_a_permission_a_user_and_a_tenant(services: FileServices) -> None:
    with pytest.raises(PermissionDenied):
        await services.files.get_files(caller().model_copy(update={"permissions": ()}), [])
    with pytest.raises(NotSignedIn):
        await services.files.list_files(caller().model_copy(update={"tenant_id": None}), FilePageRequest())

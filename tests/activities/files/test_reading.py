"""Who sees which files, and the list of them, page by page."""

from __future__ import annotations

from datetime import timedelta

import pytest

from contracts.auth import Role
from contracts.base import new_id
from contracts.errors import NotSignedIn, PermissionDenied
from contracts.files import AccessLevel, FileCursor, FilePageRequest
from contracts.service_tokens import Caller
from contracts.transfer_tokens import DownloadGrant
from tests.activities.conftest import Clock
from tests.activities.files.file_fixtures import Desk, caller

pytestmark = pytest.mark.usefixtures("opened")


async def listed(desk: Desk, viewer: Caller) -> tuple[set[str], int]:
    page = await desk.files.list_files(viewer, FilePageRequest(first=100))
    return {file.id for file in page.files}, page.total_count


async def test_a_private_file_is_seen_by_its_owner_and_by_who_administers_the_tenant_only(desk: Desk) -> None:
    owner = caller()
    colleague, admin = caller(owner.tenant_id), caller(owner.tenant_id, Role.ADMIN)
    private = await desk.keep(owner, b"mine")
    shared = await desk.keep(owner, b"ours", access_level=AccessLevel.TENANT)
    for viewer, seen in ((owner, {private, shared}), (admin, {private, shared}), (colleague, {shared})):
        assert {file.id for file in await desk.files.get_files(viewer, [private, shared])} == seen
        assert await listed(desk, viewer) == (seen, len(seen))


async def test_nothing_of_another_tenant_is_seen_or_counted_even_by_its_own_owner(desk: Desk) -> None:
    owner = caller()
    shared = await desk.keep(owner, b"ours", access_level=AccessLevel.TENANT)
    elsewhere = caller(role=Role.OWNER, user_id=owner.user_id)
    assert await desk.files.get_files(elsewhere, [shared, new_id("fil")]) == []
    assert await listed(desk, elsewhere) == (set(), 0)


async def test_answers_in_the_order_asked_for_without_what_is_no_file(desk: Desk) -> None:
    owner = caller()
    first, second = await desk.keep(owner, b"1"), await desk.keep(owner, b"2")
    asked = [second, new_id("fil"), "nonsense\0", "usr_" + first[4:], first, second]
    assert [file.id for file in await desk.files.get_files(owner, asked)] == [second, first]


async def test_a_file_appears_with_its_permissions_and_not_before(desk: Desk) -> None:
    owner = caller()
    command = await desk.send(owner, b"soon")
    file_id = await desk.record(command, "op:record")
    assert await desk.files.get_files(owner, [file_id]) == []
    assert await listed(desk, owner) == (set(), 0)


async def test_pages_are_newest_first_and_stay_where_they_are_while_files_are_added(desk: Desk, clock: Clock) -> None:
    owner = caller()
    kept = []
    for index in range(7):
        if index % 3 == 0:
            clock.pass_by(timedelta(microseconds=1))  # so that some share their moment
        kept.append(await desk.keep(owner, b"x"))
    seen: list[str] = []
    after = None
    while True:
        page = await desk.files.list_files(owner, FilePageRequest(first=2, after=after))
        assert page.total_count == 7 + len(seen) // 2
        seen += [file.id for file in page.files]
        if not page.has_next_page:
            break
        after = FileCursor(uploaded_at=page.files[-1].uploaded_at, id=page.files[-1].id)
        clock.pass_by(timedelta(seconds=1))
        await desk.keep(owner, b"newer")
    moments = {file.id: (file.uploaded_at, file.id) for file in await desk.files.get_files(owner, kept)}
    assert seen == sorted(kept, key=lambda each: moments[each], reverse=True)


async def test_a_link_opens_the_files_bytes_for_a_few_minutes(desk: Desk, clock: Clock) -> None:
    owner = caller()
    [file] = await desk.files.get_files(owner, [await desk.keep(owner, b"bytes", name="b.txt")])
    [same] = await desk.files.get_files(owner, [file.id])
    assert file == same
    path, _, token = file.download_url.rpartition("/")
    grant = desk.signer.read(token, DownloadGrant)
    assert (path, grant.name, grant.size) == ("/downloads", "b.txt", 5)
    assert await desk.storage.read(grant.storage_key, 0, 10) == b"bytes"
    clock.pass_by(timedelta(minutes=6))
    with pytest.raises(PermissionDenied):
        desk.signer.read(token, DownloadGrant)


async def test_reading_needs_the_right_to_and_somebody_signed_in_to_a_tenant(desk: Desk) -> None:
    with pytest.raises(PermissionDenied):
        await desk.files.get_files(caller().model_copy(update={"permissions": ()}), [])
    with pytest.raises(NotSignedIn):
        await desk.files.list_files(caller().model_copy(update={"tenant_id": None}), FilePageRequest())

"""The rules of files: who may send what, and who may see which."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from tortoise.expressions import Q

from activities.files import models
from activities.files.mapping import file_view, find_upload, seen_by, upload_view
from activities.files.reservations import RESERVATION_LIFETIME, check_room
from activities.files.validation import checked
from activities.transactions import atomic
from contracts.base import is_id, new_id, utc_now
from contracts.errors import NotSignedIn, PermissionDenied, UploadCompleted
from contracts.files import File, FilePage, FilePageRequest, HttpHeader, NewUpload, Upload, UploadTarget
from contracts.media_types import essence_of
from contracts.service_tokens import Caller
from contracts.tenants import SubscriptionTier
from contracts.transfer_tokens import TransferSigner, UploadGrant

UPLOAD_LIFETIME = timedelta(hours=1)
"""Within which the bytes of an upload must begin to arrive."""


class FilesService:
    """A file is seen in its tenant only: by its owner and whoever administers the tenant, or by all (AccessLevel).

    The tenant and the rights of a caller are the word of the session, and come with the call.
    """

    def __init__(self, signer: TransferSigner, clock: Callable[[], datetime] = utc_now) -> None:
        self._signer = signer
        self._clock = clock

    async def create_upload(self, caller: Caller, new: NewUpload) -> UploadTarget:
        """Where to send the bytes. Raises InvalidInput with the path of each field that is wrong, PermissionDenied."""
        user_id, tenant_id = _member(caller, "files:write")
        new = checked(new)
        upload_id, now = new_id("upl"), self._clock()
        expires_at = now + UPLOAD_LIFETIME

        async def create() -> None:
            await check_room(tenant_id, user_id, new.tier, new.size, now)
            await models.Upload.create(
                id=upload_id,
                tenant_id=tenant_id,
                user_id=user_id,
                name=new.name,
                content_type=new.content_type,
                size=new.size,
                checksum=new.checksum,
                access_level=new.access_level.value,
                tier=new.tier.value,
                expires_at=expires_at,
                reserved_until=now + RESERVATION_LIFETIME,
            )

        grant = UploadGrant(
            upload_id=upload_id,
            tenant_id=tenant_id,
            user_id=user_id,
            content_type=essence_of(new.content_type),
            size=new.size,
            checksum=new.checksum,
        )
        url = self._signer.upload_path(grant, expires_at)
        await atomic(create)
        headers = (HttpHeader(name="Content-Type", value=new.content_type),)
        return UploadTarget(id=upload_id, url=url, method="PUT", headers=headers, expires_at=expires_at)

    async def get_upload(self, caller: Caller, upload_id: str) -> Upload:
        """One's own; UploadNotFound for all others."""
        user_id, tenant_id = _member(caller, "files:write")
        return upload_view(await find_upload(upload_id, tenant_id, user_id))

    async def reserve_upload(self, caller: Caller, upload_id: str) -> None:
        """Keep room for an upload whose bytes are arriving, for ``RESERVATION_LIFETIME`` from now.

        Raises:
            UploadNotFound: the caller has no such upload.
            UploadCompleted: a file is made of it already.
            InvalidInput: the reservation had lapsed, and there is no room any more.
        """
        user_id, tenant_id = _member(caller, "files:write")
        now = self._clock()

        async def reserve() -> None:
            row = await find_upload(upload_id, tenant_id, user_id)
            if row.file_id is not None:
                raise UploadCompleted()
            await check_room(tenant_id, user_id, SubscriptionTier(row.tier), row.size, now, except_id=row.id)
            await models.Upload.filter(id=row.id).update(reserved_until=now + RESERVATION_LIFETIME)

        await atomic(reserve)

    async def confirm_upload(self, caller: Caller, upload_id: str) -> None:
        """Keep the room of an upload whose bytes have arrived. Raises UploadNotFound."""
        user_id, tenant_id = _member(caller, "files:write")
        row = await find_upload(upload_id, tenant_id, user_id)
        await models.Upload.filter(id=row.id).update(received_at=self._clock())

    async def get_files(self, caller: Caller, ids: Iterable[str]) -> list[File]:
        """Those of them that the caller may see, in the order asked for."""
        user_id, tenant_id = _member(caller, "files:read")
        wanted = [each for each in dict.fromkeys(ids) if is_id(each, "fil")]
        seen = models.File.filter(seen_by(user_id, tenant_id, administers=_administers(caller)))
        rows = {row.id: row for row in await seen.filter(id__in=wanted)}
        return [file_view(rows[each], user_id, self._signer, self._clock()) for each in wanted if each in rows]

    async def list_files(self, caller: Caller, page: FilePageRequest) -> FilePage:
        """The newest first; a file that is added meanwhile shifts nothing."""
        user_id, tenant_id = _member(caller, "files:read")
        seen = models.File.filter(seen_by(user_id, tenant_id, administers=_administers(caller)))
        behind = seen
        if page.after is not None:
            moment = page.after.uploaded_at
            behind = seen.filter(Q(uploaded_at__lt=moment) | Q(uploaded_at=moment, id__lt=page.after.id))
        rows = await behind.order_by("-uploaded_at", "-id").limit(page.first + 1)
        views = tuple(file_view(row, user_id, self._signer, self._clock()) for row in rows[: page.first])
        return FilePage(files=views, has_next_page=len(rows) > page.first, total_count=await seen.count())


def _member(caller: Caller, right: str) -> tuple[str, str]:
    """User and tenant of the caller, who has the right."""
    if caller.user_id is None or caller.tenant_id is None:
        raise NotSignedIn()
    if right not in caller.permissions:
        raise PermissionDenied()
    return caller.user_id, caller.tenant_id


def _administers(caller: Caller) -> bool:
    return "operations:administer" in caller.permissions

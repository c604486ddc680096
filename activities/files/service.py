"""The files service: announced uploads, and lists of the files that a user may see."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from tortoise.expressions import Q

from activities.files import models
from activities.files.mapping import find_upload, to_file, to_upload, visible_to
from activities.files.reservations import RESERVATION_LIFETIME, check_free_storage
from activities.files.validation import validate_upload
from activities.transactions import atomic
from contracts.base import is_id, new_id, utc_now
from contracts.callers import Caller
from contracts.errors import NotSignedIn, PermissionDenied, UploadCompleted
from contracts.files import File, FilePage, FilePageRequest, HttpHeader, NewUpload, Upload, UploadTarget
from contracts.media_types import essence_of
from contracts.tenants import SubscriptionTier
from contracts.transfer_grants import UploadGrant
from infrastructure.signing.transfer_tokens import TransferTokenSigner

UPLOAD_LIFETIME = timedelta(hours=1)
"""Time within which the bytes of an upload must begin to arrive."""


class FilesService:
    """Manages uploads and files. A file is visible in its tenant only.

    Its owner and the tenant's administrators see it, and with the access level TENANT all members do. The session of
    the caller determines the caller's tenant and permissions.
    """

    def __init__(self, signer: TransferTokenSigner, clock: Callable[[], datetime] = utc_now) -> None:
        self._signer = signer
        self._clock = clock

    async def create_upload(self, caller: Caller, new: NewUpload) -> UploadTarget:
        """Announce an upload, reserve storage for it, and return the target for its bytes.

        Raises:
            InvalidInput: names the path of each invalid field, ``size`` if the storage is exhausted.
            QuotaExhausted: the user has too many open uploads.
            PermissionDenied: the caller lacks ``files:write``.
            NotSignedIn: the caller has no user or no tenant.
        """
        user_id, tenant_id = _require_permission(caller, "files:write")
        new = validate_upload(new)
        upload_id, now = new_id("upl"), self._clock()
        expires_at = now + UPLOAD_LIFETIME

        async def create() -> None:
            await check_free_storage(tenant_id, user_id, new.tier, new.size, now)
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
        """Return an upload of the caller.

        Raises:
            UploadNotFound: the caller has no such upload.
        """
        user_id, tenant_id = _require_permission(caller, "files:write")
        return to_upload(await find_upload(upload_id, tenant_id, user_id))

    async def reserve_upload(self, caller: Caller, upload_id: str) -> None:
        """Renew the reservation of an upload whose bytes are arriving, for ``RESERVATION_LIFETIME`` from now.

        Raises:
            UploadNotFound: the caller has no such upload.
            UploadCompleted: an operation has created a file from the upload.
            StorageQuotaExceeded: the reservation had expired, and the storage is exhausted.
        """
        user_id, tenant_id = _require_permission(caller, "files:write")
        now = self._clock()

        async def reserve() -> None:
            row = await find_upload(upload_id, tenant_id, user_id)
            if row.file_id is not None:
                raise UploadCompleted()
            await check_free_storage(tenant_id, user_id, SubscriptionTier(row.tier), row.size, now, except_id=row.id)
            await models.Upload.filter(id=row.id).update(reserved_until=now + RESERVATION_LIFETIME)

        await atomic(reserve)

    async def confirm_upload(self, caller: Caller, upload_id: str) -> None:
        """Record that the bytes of an upload have arrived, which keeps their reservation.

        Raises:
            UploadNotFound: the caller has no such upload.
        """
        user_id, tenant_id = _require_permission(caller, "files:write")
        row = await find_upload(upload_id, tenant_id, user_id)
        await models.Upload.filter(id=row.id).update(received_at=self._clock())

    async def get_files(self, caller: Caller, ids: Iterable[str]) -> list[File]:
        """Return the files that the caller may see, in the requested order."""
        user_id, tenant_id = _require_permission(caller, "files:read")
        requested = [each for each in dict.fromkeys(ids) if is_id(each, "fil")]
        visible = models.File.filter(visible_to(user_id, tenant_id, is_administrator=_is_administrator(caller)))
        rows = {row.id: row for row in await visible.filter(id__in=requested)}
        return [to_file(rows[each], user_id, self._signer, self._clock()) for each in requested if each in rows]

    async def list_files(self, caller: Caller, page: FilePageRequest) -> FilePage:
        """Return a page of the caller's visible files, newest first, by keyset pagination."""
        user_id, tenant_id = _require_permission(caller, "files:read")
        visible = models.File.filter(visible_to(user_id, tenant_id, is_administrator=_is_administrator(caller)))
        remaining = visible
        if page.after is not None:
            moment = page.after.uploaded_at
            remaining = visible.filter(Q(uploaded_at__lt=moment) | Q(uploaded_at=moment, id__lt=page.after.id))
        rows = await remaining.order_by("-uploaded_at", "-id").limit(page.first + 1)
        files = tuple(to_file(row, user_id, self._signer, self._clock()) for row in rows[: page.first])
        return FilePage(files=files, has_next_page=len(rows) > page.first, total_count=await visible.count())


def _require_permission(caller: Caller, permission: str) -> tuple[str, str]:
    """Return user and tenant of a caller who has the permission. Raises NotSignedIn, PermissionDenied."""
    if caller.user_id is None or caller.tenant_id is None:
        raise NotSignedIn()
    if permission not in caller.permissions:
        raise PermissionDenied()
    return caller.user_id, caller.tenant_id


def _is_administrator(caller: Caller) -> bool:
    return "operations:administer" in caller.permissions

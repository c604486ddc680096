"""HTTP endpoints of the files service, for requests that need no workflow."""

from __future__ import annotations

from starlette.routing import Route

from activities.files.service import FilesService
from activities.http import endpoint
from contracts.base import Ids
from contracts.callers import Caller
from contracts.files import File, FilePage, FilePageRequest, NewUpload, Upload, UploadRef, UploadTarget
from infrastructure.signing.service_tokens import ServiceTokenSigner


def routes(service: FilesService, signer: ServiceTokenSigner) -> list[Route]:
    async def create_upload(caller: Caller, new: NewUpload) -> UploadTarget:
        return await service.create_upload(caller, new)

    async def get_upload(caller: Caller, upload: UploadRef) -> Upload:
        return await service.get_upload(caller, upload.upload_id)

    async def reserve_upload(caller: Caller, upload: UploadRef) -> None:
        await service.reserve_upload(caller, upload.upload_id)

    async def confirm_upload(caller: Caller, upload: UploadRef) -> None:
        await service.confirm_upload(caller, upload.upload_id)

    async def get_files(caller: Caller, requested: Ids) -> list[File]:
        return await service.get_files(caller, requested.ids)

    async def list_files(caller: Caller, page: FilePageRequest) -> FilePage:
        return await service.list_files(caller, page)

    return [
        endpoint("/files/create_upload", signer, NewUpload, create_upload),
        endpoint("/files/get_upload", signer, UploadRef, get_upload),
        endpoint("/files/reserve_upload", signer, UploadRef, reserve_upload),
        endpoint("/files/confirm_upload", signer, UploadRef, confirm_upload),
        endpoint("/files/get_files", signer, Ids, get_files),
        endpoint("/files/list_files", signer, FilePageRequest, list_files),
    ]

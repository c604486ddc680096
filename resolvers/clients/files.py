"""Client of the files service: uploads and files."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import TypeAdapter

from contracts.base import Ids
from contracts.callers import Caller
from contracts.files import File, FilePage, FilePageRequest, NewUpload, Upload, UploadRef, UploadTarget
from resolvers.clients.base import ServiceClient

_TARGET = TypeAdapter(UploadTarget)
_UPLOAD = TypeAdapter(Upload)
_FILES = TypeAdapter(tuple[File, ...])
_NONE: TypeAdapter[None] = TypeAdapter(None)
_PAGE = TypeAdapter(FilePage)


class FilesClient:
    """Calls the files service."""

    def __init__(self, service: ServiceClient) -> None:
        self._service = service

    async def create_upload(self, caller: Caller, upload: NewUpload) -> UploadTarget:
        """Reserve an upload and return its target. Raises InvalidInput (with the invalid fields), PermissionDenied."""
        return await self._service.call("create_upload", caller, upload.model_dump_json(), _TARGET)

    async def get_upload(self, caller: Caller, upload_id: str) -> Upload:
        """Return an upload of the caller. Raises UploadNotFound, PermissionDenied."""
        return await self._service.call("get_upload", caller, UploadRef(upload_id=upload_id).model_dump_json(), _UPLOAD)

    async def reserve_upload(self, caller: Caller, upload_id: str) -> None:
        """Reserve storage for an upload while the gateway receives its bytes.

        Raises:
            UploadNotFound: the caller has no such upload.
            UploadCompleted: the upload is complete already.
            InvalidInput: the tenant's storage quota is exhausted.
        """
        body = UploadRef(upload_id=upload_id).model_dump_json()
        return await self._service.call("reserve_upload", caller, body, _NONE)

    async def confirm_upload(self, caller: Caller, upload_id: str) -> None:
        """Report that all bytes of an upload are stored. Raises UploadNotFound."""
        body = UploadRef(upload_id=upload_id).model_dump_json()
        return await self._service.call("confirm_upload", caller, body, _NONE)

    async def get_files(self, caller: Caller, ids: Sequence[str]) -> tuple[File, ...]:
        """Return the files with these ids that the caller may see; at most 500 ids."""
        return await self._service.call("get_files", caller, Ids(ids=tuple(ids)).model_dump_json(), _FILES)

    async def list_files(self, caller: Caller, request: FilePageRequest) -> FilePage:
        """Return one page of the files that the caller may see, newest first."""
        return await self._service.call("list_files", caller, request.model_dump_json(), _PAGE)

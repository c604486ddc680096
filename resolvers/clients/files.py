"""The files service as the edge calls it: uploads to come, files that are there."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import TypeAdapter

from contracts.base import Ids
from contracts.files import File, FilePage, FilePageRequest, NewUpload, Upload, UploadRef, UploadTarget
from contracts.service_tokens import Caller
from resolvers.clients.base import ServiceClient

_TARGET = TypeAdapter(UploadTarget)
_UPLOAD = TypeAdapter(Upload)
_FILES = TypeAdapter(tuple[File, ...])
_NOTHING: TypeAdapter[None] = TypeAdapter(None)
_PAGE = TypeAdapter(FilePage)


class FilesClient:
    def __init__(self, calls: ServiceClient) -> None:
        self._calls = calls

    async def create_upload(self, caller: Caller, new: NewUpload) -> UploadTarget:
        """Where to send the bytes; InvalidInput naming what is wrong, PermissionDenied."""
        return await self._calls.call("create_upload", caller, new.model_dump_json(), _TARGET)

    async def upload(self, caller: Caller, upload_id: str) -> Upload:
        """One of the caller's own; UploadNotFound, PermissionDenied."""
        return await self._calls.call("get_upload", caller, UploadRef(upload_id=upload_id).model_dump_json(), _UPLOAD)

    async def reserve_upload(self, caller: Caller, upload_id: str) -> None:
        """Keep room for an upload while its bytes arrive; UploadNotFound, UploadCompleted, InvalidInput (no room)."""
        body = UploadRef(upload_id=upload_id).model_dump_json()
        return await self._calls.call("reserve_upload", caller, body, _NOTHING)

    async def confirm_upload(self, caller: Caller, upload_id: str) -> None:
        """Say that the bytes of an upload have arrived; UploadNotFound."""
        body = UploadRef(upload_id=upload_id).model_dump_json()
        return await self._calls.call("confirm_upload", caller, body, _NOTHING)

    async def files(self, caller: Caller, ids: Sequence[str]) -> tuple[File, ...]:
        """Those of them that the caller may see; at most 500 ids."""
        return await self._calls.call("get_files", caller, Ids(ids=tuple(ids)).model_dump_json(), _FILES)

    async def page(self, caller: Caller, wanted: FilePageRequest) -> FilePage:
        """Those that the caller may see, newest first."""
        return await self._calls.call("list_files", caller, wanted.model_dump_json(), _PAGE)

"""Activities of the files service. The services document what they raise.

Activities that read bytes send heartbeats, and a retry resumes from the last heartbeat of the attempt before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from temporalio import activity

from contracts.files import (
    CheckedUpload,
    ChecksumProgress,
    FileDetails,
    FileMetadata,
    FilePermissions,
    FileRecord,
    MetadataPublication,
    NewFile,
    ProcessFileCommand,
    StoredFile,
    TextProgress,
    UploadFileCommand,
)
from contracts.operations import StepHeartbeat

if TYPE_CHECKING:
    from activities.files.processing import ProcessingService
    from activities.files.uploading import UploadingService

Progress = TypeVar("Progress", bound=StepHeartbeat)


class Files:
    """Activities that workflows call on the task queue ``files``."""

    def __init__(self, uploading: UploadingService, processing: ProcessingService) -> None:
        self._uploading = uploading
        self._processing = processing

    @activity.defn
    async def validate_file_upload(self, command: UploadFileCommand) -> CheckedUpload:
        fraction = _last_heartbeat(StepHeartbeat).fraction
        return await self._uploading.validate_file_upload(
            command, activity.heartbeat, min_fraction=fraction, operation_id=activity.info().workflow_id
        )

    @activity.defn
    async def create_file_record(self, new: NewFile) -> FileRecord:
        return await self._uploading.create_file_record(new)

    @activity.defn
    async def undo_create_file_record(self, key: str) -> None:
        await self._uploading.undo_create_file_record(key)

    @activity.defn
    async def upload_to_storage(self, stored: StoredFile) -> None:
        fraction = _last_heartbeat(StepHeartbeat).fraction
        await self._uploading.upload_to_storage(stored, activity.heartbeat, min_fraction=fraction)

    @activity.defn
    async def undo_upload_to_storage(self, stored: StoredFile) -> None:
        await self._uploading.undo_upload_to_storage(stored)

    @activity.defn
    async def update_file_metadata(self, details: FileDetails) -> None:
        await self._uploading.update_file_metadata(details)

    @activity.defn
    async def undo_update_file_metadata(self, key: str) -> None:
        await self._uploading.undo_update_file_metadata(key)

    @activity.defn
    async def set_file_permissions(self, permissions: FilePermissions) -> None:
        await self._uploading.set_file_permissions(permissions)

    @activity.defn
    async def undo_set_file_permissions(self, key: str) -> None:
        await self._uploading.undo_set_file_permissions(key)

    @activity.defn
    async def verify_checksum(self, command: ProcessFileCommand) -> None:
        resume_from = _last_heartbeat(ChecksumProgress)
        await self._processing.verify_checksum(command, activity.heartbeat, resume_from=resume_from)

    @activity.defn
    async def extract_metadata(self, command: ProcessFileCommand) -> FileMetadata:
        resume_from = _last_heartbeat(TextProgress)
        return await self._processing.extract_metadata(command, activity.heartbeat, resume_from=resume_from)

    @activity.defn
    async def publish_metadata(self, publication: MetadataPublication) -> None:
        await self._processing.publish_metadata(publication)

    @activity.defn
    async def undo_publish_metadata(self, key: str) -> None:
        await self._processing.undo_publish_metadata(key)


def _last_heartbeat(kind: type[Progress]) -> Progress:
    """Return the last heartbeat of the previous attempt; the default progress if there is none."""
    details = activity.info().heartbeat_details
    return kind.model_validate(details[0]) if details else kind()

"""The workflow UploadFile: create a file from the bytes that a client has uploaded to the staging area."""

from __future__ import annotations

from temporalio import workflow

from activities.files.activities import Files
from contracts.files import FileDetails, FilePermissions, NewFile, StoredFile, UploadFileCommand
from contracts.operations import FileUploaded, OperationKind
from workflows.operation import OperationRun
from workflows.options import TRANSFER


@workflow.defn
class UploadFile:
    """Create a file from an upload. Only ids and metadata enter the workflow, never the bytes of the file."""

    @workflow.run
    async def run(self, command: UploadFileCommand) -> FileUploaded:
        tenant_id = command.tenant_id
        async with OperationRun(OperationKind.FILE_UPLOAD) as operation:
            async with operation.step("validate_upload"):
                upload = await operation.call(Files.validate_file_upload, command, TRANSFER)

            async with operation.step("create_file_record"):
                new = NewFile(key=operation.key, checksum=upload.checksum, **command.model_dump())
                file_id = (await operation.call(Files.create_file_record, new)).file_id

            async with operation.step("store_file"):
                stored = StoredFile(key=operation.key, file_id=file_id, tenant_id=tenant_id)
                await operation.call(Files.upload_to_storage, stored, TRANSFER)

            async with operation.step("update_metadata"):
                await operation.call(
                    Files.update_file_metadata,
                    FileDetails(
                        key=operation.key,
                        file_id=file_id,
                        tenant_id=tenant_id,
                        name=upload.name,
                        content_type=upload.content_type,
                    ),
                )

            async with operation.step("set_permissions"):
                await operation.call(
                    Files.set_file_permissions,
                    FilePermissions(
                        key=operation.key, file_id=file_id, tenant_id=tenant_id, access_level=upload.access_level
                    ),
                )

            return operation.complete(FileUploaded(file_id=file_id))

"""The workflow ProcessFile: verify a stored file, extract its metadata and publish the metadata."""

from __future__ import annotations

from temporalio import workflow

from activities.files.activities import Files
from contracts.files import MetadataPublication, ProcessFileCommand
from contracts.operations import FileProcessed, OperationKind
from workflows.operation import OperationRun
from workflows.options import TRANSFER


@workflow.defn
class ProcessFile:
    """Process a stored file; a failure before the last step leaves the metadata of the file unchanged."""

    @workflow.run
    async def run(self, command: ProcessFileCommand) -> FileProcessed:
        file_id, tenant_id = command.file_id, command.tenant_id
        async with OperationRun(OperationKind.FILE_PROCESSING) as operation:
            async with operation.step("verify_checksum"):
                await operation.call(Files.verify_checksum, command, TRANSFER)

            async with operation.step("extract_metadata"):
                metadata = await operation.call(Files.extract_metadata, command, TRANSFER)

            async with operation.step("publish_metadata"):
                await operation.call(
                    Files.publish_metadata,
                    MetadataPublication(key=operation.key, file_id=file_id, tenant_id=tenant_id, metadata=metadata),
                )

            return operation.complete(FileProcessed(file_id=file_id))

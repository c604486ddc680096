"""Deletion of an operation: a deletion mark in the record, then the removal of its workflows from Temporal."""

from __future__ import annotations

from datetime import timedelta

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from activities.operations.service import OperationsService
from contracts.compensation_repair import repair_id

_RPC_TIMEOUT = timedelta(seconds=10)


class OperationOpen(Exception):
    """The operation or its repair still runs; a deletion now would leave its data partly changed."""


class OperationDeletion:
    """Deletes closed operations. A repeated deletion completes an incomplete one."""

    def __init__(self, client: Client, service: OperationsService) -> None:
        self._client = client
        self._service = service

    async def delete(self, operation_id: str) -> int:
        """Delete a closed operation; clients do not find it any more once its record is marked as deleted.

        Returns:
            The number of runs, including runs of repairs, that Temporal will remove within some minutes.

        Raises:
            OperationNotFound: neither the record nor Temporal has the operation.
            OperationOpen: the operation has not closed, or its repair runs.
        """
        current = await self._describe(operation_id)
        if current is not None:
            await self._check_closed(current)
        is_marked = bool((await self._service.look_up([operation_id])).deleted)
        if not is_marked:
            await self._service.delete(operation_id, is_known=current is not None)
        runs = {run.run_id async for run in self._client.list_workflows(f"WorkflowId = '{operation_id}'")}
        if current is not None:
            runs.add(current.run_id)
        return sum([await self._remove_run(operation_id, run_id) for run_id in runs])

    async def _check_closed(self, current: WorkflowExecutionDescription) -> None:
        if current.status is WorkflowExecutionStatus.RUNNING:
            raise OperationOpen("it has not closed")
        repair = await self._describe(repair_id(current.id, current.run_id))
        if repair is not None and repair.status is WorkflowExecutionStatus.RUNNING:
            raise OperationOpen("what it had done is being undone")

    async def _remove_run(self, operation_id: str, run_id: str) -> int:
        repair = await self._describe(repair_id(operation_id, run_id))
        removed = int(await self._request_removal(operation_id, run_id))
        if repair is not None:
            removed += await self._request_removal(repair.id, repair.run_id)
        return removed

    async def _request_removal(self, workflow_id: str, run_id: str) -> bool:
        execution = WorkflowExecution(workflow_id=workflow_id, run_id=run_id)
        request = DeleteWorkflowExecutionRequest(namespace=self._client.namespace, workflow_execution=execution)
        try:
            await self._client.workflow_service.delete_workflow_execution(request, timeout=_RPC_TIMEOUT)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            return False
        return True

    async def _describe(self, workflow_id: str) -> WorkflowExecutionDescription | None:
        try:
            return await self._client.get_workflow_handle(workflow_id).describe(rpc_timeout=_RPC_TIMEOUT)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            return None

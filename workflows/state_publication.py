"""Publish each new state of an operation from the workflow sandbox to the worker process.

The worker sends it to the record of operations and notifies the gateways that follow the operation.
"""

from __future__ import annotations

from temporalio import workflow
from temporalio.common import SearchAttributeKey

from contracts.operations import (
    ATTRIBUTE_TENANTS,
    ATTRIBUTE_USER,
    Operation,
    OperationKind,
    OperationState,
    Position,
)

PUBLISH_STATE = "publish_operation_state"
"""Name of the external function of the worker that accepts an ``Operation``; it neither blocks nor raises."""

UNKNOWN_RUN = -1

_USER = SearchAttributeKey.for_keyword(ATTRIBUTE_USER)
_TENANTS = SearchAttributeKey.for_keyword_list(ATTRIBUTE_TENANTS)


def publish_state(kind: OperationKind, state: OperationState) -> None:
    """Pass the state to the worker process, except during a replay or if the worker provides no such function.

    The receiver may get the state before Temporal has it, namely before the workflow task completes, so it must treat
    the state as a projection. The position of a later run is unknown inside the workflow: ``run`` is then -1.
    """
    publish = workflow.extern_functions().get(PUBLISH_STATE)
    if publish is None or workflow.unsafe.is_replaying():
        return
    info = workflow.info()
    is_closed = state.status.is_closed
    is_first_run = info.run_id == info.first_execution_run_id
    publish(
        Operation(
            id=info.workflow_id,
            kind=kind,
            user_id=info.typed_search_attributes.get(_USER) or "",
            tenant_ids=tuple(info.typed_search_attributes.get(_TENANTS) or ()),
            state=state,
            closed_at=workflow.now() if is_closed else None,
            position=Position(run=0 if is_first_run else UNKNOWN_RUN, revision=state.revision, closed=is_closed),
            run_id=info.run_id,
        )
    )

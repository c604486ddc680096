"""Resolvers of the object that an operation concerns, from the record of operations, as the viewer may see it."""

from __future__ import annotations

from contracts.errors import NotFound, NotSignedIn
from contracts.operation_records import OperationRecord
from contracts.operations import Operation
from resolvers.context import Context
from resolvers.nodes import NodeObject, load_node, load_operation


async def subject(context: Context, operation: Operation) -> str | None:
    """Return the label of the object concerned; None if it is not recorded, or hidden from this viewer."""
    record = await _visible_record(context, operation)
    return record.subject.label if record and record.subject else None


async def target(context: Context, operation: Operation) -> NodeObject | None:
    """Return the object concerned; None unless it exists and the viewer may see it."""
    record = await _visible_record(context, operation)
    subject = record.subject if record else None
    target_id = subject.target_id if subject and subject.target_id else operation.target_id
    if record is None or target_id is None:
        return None
    try:
        return await load_node(context, target_id)
    except (NotFound, NotSignedIn):
        return None


async def retry_of(context: Context, operation: Operation) -> Operation | None:
    """Return the operation that this one retries; None if there is none, or if the viewer may not see it."""
    record = await context.load_record(operation.id) if operation.user_id else None
    if record is None or record.retry_of is None:
        return None
    try:
        return await load_operation(context, record.retry_of)
    except (NotFound, NotSignedIn):
        return None


async def _visible_record(context: Context, operation: Operation) -> OperationRecord | None:
    """Return the record of the operation; None if the viewer may not see its subject."""
    if not operation.user_id:
        return None
    record = await context.load_record(operation.id)
    if record is None or record.subject is None or not record.subject.is_private:
        return record
    viewer = await context.effective_viewer()
    return record if viewer is not None and viewer.user_id == operation.user_id else None

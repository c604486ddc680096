"""What an operation concerns, as far as the record knows it and the viewer may see it."""

from __future__ import annotations

from contracts.errors import NotFound, NotSignedIn
from contracts.operation_records import OperationRecord
from contracts.operations import Operation
from resolvers.context import Context
from resolvers.nodes import NodeObject, load_node, load_operation


async def subject(context: Context, of: Operation) -> str | None:
    """The label of the object concerned; None if it is not known, or hidden from this viewer."""
    record = await _visible_record(context, of)
    return record.subject.label if record and record.subject else None


async def target(context: Context, of: Operation) -> NodeObject | None:
    """The object concerned, while it exists and the viewer may see it."""
    record = await _visible_record(context, of)
    subject = record.subject if record else None
    target_id = subject.target_id if subject and subject.target_id else of.target_id
    if record is None or target_id is None:
        return None
    try:
        return await load_node(context, target_id)
    except (NotFound, NotSignedIn):
        return None


async def retry_of(context: Context, of: Operation) -> Operation | None:
    """The operation that this one retries, if the viewer may see it."""
    record = await context.load_record(of.id) if of.user_id else None
    if record is None or record.retry_of is None:
        return None
    try:
        return await load_operation(context, record.retry_of)
    except (NotFound, NotSignedIn):
        return None


async def _visible_record(context: Context, of: Operation) -> OperationRecord | None:
    """None for a login of which this viewer sees no user, and if the subject is private to another user."""
    if not of.user_id:
        return None
    record = await context.load_record(of.id)
    if record is None or record.subject is None or not record.subject.is_private:
        return record
    viewer = await context.effective_viewer()
    return record if viewer is not None and viewer.user_id == of.user_id else None

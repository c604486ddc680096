"""Idempotency records: they make a step take effect once, and its undo take effect at most once.

Each domain has a table of idempotency records and writes a record in the same transaction as the data that the step
changes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from pydantic import JsonValue
from tortoise import fields
from tortoise.exceptions import IntegrityError
from tortoise.models import Model

from activities.transactions import atomic
from contracts.errors import StepAlreadyUndone


class IdempotencyRecord(Model):
    """The record of one step under its idempotency key (workflow id and name of the step).

    ``result`` holds the result of the step, which repetitions return; it is wrapped in a list, because Tortoise parses
    a plain string as JSON text. ``is_undone`` is set by the undo. An undo without a preceding step creates a tombstone,
    that is a record with ``is_undone``, so that a late attempt of the step has no effect.
    """

    key = fields.CharField(max_length=200, primary_key=True)
    is_undone = fields.BooleanField(default=False)
    result: list[JsonValue] | None = fields.JSONField(null=True)
    created_at = fields.DatetimeField(auto_now_add=True)

    class Meta:
        abstract = True


Table: TypeAlias = type[IdempotencyRecord]


async def run_once(table: Table, key: str, apply: Callable[[], Awaitable[JsonValue]]) -> JsonValue:
    """Run ``apply`` in a transaction with the step's record; if the step was done already, return its first result.

    Args:
        table: the idempotency records of the domain.
        key: the idempotency key of the step.
        apply: changes the data; its result is stored.

    Raises:
        StepAlreadyUndone: the step was undone before this attempt.
    """

    async def record_and_apply() -> JsonValue:
        await table.create(key=key)  # first, so that a concurrent attempt of the same step waits here
        result = await apply()
        await table.filter(key=key).update(result=[result])
        return result

    try:
        return await atomic(record_and_apply)
    except IntegrityError:
        record = await table.get_or_none(key=key)
        if record is None:
            raise  # ``apply`` raised the error
    if record.is_undone:
        raise StepAlreadyUndone()
    return record.result[0] if record.result else None


async def undo_once(table: Table, key: str, revert: Callable[[JsonValue], Awaitable[None]]) -> JsonValue:
    """Revert the step in a transaction and mark it as undone; has no effect if it was never done or is undone already.

    Args:
        table: the idempotency records of the domain.
        key: the idempotency key of the step.
        revert: receives the result of the step and reverts its changes.

    Returns:
        The result of the step, also at each repetition, for work that follows the commit; None if the step was never
        done.
    """

    async def create_tombstone() -> None:
        await table.create(key=key, is_undone=True)

    async def revert_once() -> JsonValue:
        record = await table.select_for_update().get(key=key)
        result = record.result[0] if record.result else None
        if not record.is_undone:
            await revert(result)
            await table.filter(key=key).update(is_undone=True)
        return result

    try:
        await atomic(create_tombstone)
    except IntegrityError:  # the step has a record
        return await atomic(revert_once)
    return None

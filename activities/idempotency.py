"""The ledger that lets every step run twice and be undone once: a table in each domain, written in its transactions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pydantic import JsonValue
from tortoise import fields
from tortoise.exceptions import IntegrityError
from tortoise.models import Model

from activities.transactions import atomic
from contracts.errors import StepAlreadyUndone


class IdempotencyRecord(Model):
    """One step's effect, by the key made of workflow id and step.

    ``answer`` holds what the step returned, told again to whoever tries it again; in a list, since Tortoise takes a
    bare string for the text of some JSON. ``undone`` is set by the undo, also where there was nothing to undo yet:
    then a late try of the step finds it and leaves things as they are.
    """

    key = fields.CharField(max_length=200, primary_key=True)
    undone = fields.BooleanField(default=False)
    answer: list[JsonValue] | None = fields.JSONField(null=True)
    created_at = fields.DatetimeField(auto_now_add=True)

    class Meta:
        abstract = True


async def once(ledger: type[IdempotencyRecord], key: str, act: Callable[[], Awaitable[JsonValue]]) -> JsonValue:
    """Run ``act`` in a transaction with its entry in the ledger; run before, give its first answer again.

    Raises EffectUndone where the step was undone meanwhile.
    """

    async def enter_and_act() -> JsonValue:
        await ledger.create(key=key)  # first: another try of the same step waits here for this one's end
        answer = await act()
        await ledger.filter(key=key).update(answer=[answer])
        return answer

    try:
        return await atomic(enter_and_act)
    except IntegrityError:
        entry = await ledger.get_or_none(key=key)
        if entry is None:
            raise  # the failure is act's own
    if entry.undone:
        raise StepAlreadyUndone()
    return entry.answer[0] if entry.answer else None


async def undo(
    ledger: type[IdempotencyRecord], key: str, take_back: Callable[[JsonValue], Awaitable[None]]
) -> JsonValue:
    """Take the step back in a transaction and mark it undone; harmless where it was never done or is undone already.

    ``take_back`` is given the step's answer. Returns that answer, at every repetition too, for what has to follow the
    commit; None where the step was never done.
    """

    async def forestall() -> None:
        await ledger.create(key=key, undone=True)

    async def take_back_once() -> JsonValue:
        entry = await ledger.select_for_update().get(key=key)
        answer = entry.answer[0] if entry.answer else None
        if not entry.undone:
            await take_back(answer)
            await ledger.filter(key=key).update(undone=True)
        return answer

    try:
        await atomic(forestall)
    except IntegrityError:  # the step is in the ledger
        return await atomic(take_back_once)
    return None

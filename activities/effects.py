"""The ledger that lets every step run twice and be undone once: each domain keeps one table of it, in its own transactions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pydantic import JsonValue
from tortoise import fields
from tortoise.exceptions import IntegrityError
from tortoise.models import Model
from tortoise.transactions import in_transaction

from contracts.errors import EffectUndone


class Effect(Model):
    """One step's effect, by the key made of workflow id and step.

    ``answer`` is what the step returned, told again to whoever tries it again. ``undone`` is set by the undo, also where
    there was nothing to undo yet: a late try of the step then finds it and leaves things as they are.
    """

    key = fields.CharField(max_length=200, primary_key=True)
    undone = fields.BooleanField(default=False)
    answer: JsonValue = fields.JSONField(null=True)
    created_at = fields.DatetimeField(auto_now_add=True)

    class Meta:
        abstract = True


async def once(ledger: type[Effect], key: str, act: Callable[[], Awaitable[JsonValue]]) -> JsonValue:
    """Run ``act`` in a transaction with its entry in the ledger; run before, give its first answer again.

    Raises EffectUndone where the step was undone meanwhile.
    """
    try:
        async with in_transaction():
            entry = await ledger.get_or_none(key=key)
            if entry is None:
                answer = await act()
                await ledger.create(key=key, answer=answer)
                return answer
    except IntegrityError:
        entry = await ledger.get_or_none(key=key)  # another try of the same step was quicker, or the failure is act's own
        if entry is None:
            raise
    if entry.undone:
        raise EffectUndone()
    return entry.answer


async def undo(ledger: type[Effect], key: str, take_back: Callable[[JsonValue], Awaitable[None]]) -> None:
    """Take the step back in a transaction and mark it undone; harmless where it was never done or is undone already.

    ``take_back`` is given the step's answer.
    """
    try:
        async with in_transaction():
            entry = await ledger.select_for_update().get_or_none(key=key)
            if entry is None:
                await ledger.create(key=key, undone=True)
            elif not entry.undone:
                await take_back(entry.answer)
                entry.undone = True
                await entry.save(update_fields=["undone"])
    except IntegrityError:
        await undo(ledger, key, take_back)  # the step's own try entered it between our look and our entry

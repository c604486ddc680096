"""The laws of the ledger: done at most once, undone at most once, whatever answers get lost on the way."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from pydantic import JsonValue
from tortoise.exceptions import IntegrityError

from activities.idempotency import run_once, undo_once
from activities.transactions import atomic
from activities.users import models
from contracts.errors import InvalidInput, StepAlreadyUndone
from tests.activities.locks import held_row

KEY = "tenant-switch-1:set_tenant"


def add(tenant_id: str) -> Callable[[], Awaitable[JsonValue]]:
    """A step with an effect that can be counted."""

    async def act() -> JsonValue:
        await models.Affiliation.create(user_id="usr_1", tenant_id=tenant_id)
        return tenant_id

    return act


async def remove(answer: JsonValue) -> None:
    assert await models.Affiliation.filter(tenant_id=answer).delete() == 1


async def effects() -> int:
    return await models.Affiliation.all().count()


async def test_repeated_step_returns_its_first_result_without_effect(any_database: None) -> None:
    first = await run_once(models.UsersIdempotencyRecord, KEY, add("ten_1"))
    again = await run_once(models.UsersIdempotencyRecord, KEY, add("ten_2"))

    assert first == again
    assert await effects() == 1


async def test_failed_step_can_be_repeated(any_database: None) -> None:
    async def fail() -> JsonValue:
        await add("ten_1")()
        raise InvalidInput()

    with pytest.raises(InvalidInput):
        await run_once(models.UsersIdempotencyRecord, KEY, fail)
    assert await effects() == 0

    await run_once(models.UsersIdempotencyRecord, KEY, add("ten_1"))
    assert await effects() == 1


async def test_integrity_error_of_the_step_propagates(any_database: None) -> None:
    await add("ten_1")()

    with pytest.raises(IntegrityError):
        await run_once(models.UsersIdempotencyRecord, KEY, add("ten_1"))


async def test_repeated_undo_reverts_once(any_database: None) -> None:
    await run_once(models.UsersIdempotencyRecord, KEY, add("ten_1"))

    answers = [await undo_once(models.UsersIdempotencyRecord, KEY, remove) for _ in range(2)]

    assert await effects() == 0
    assert answers[0] == answers[1] is not None


async def test_undo_before_the_step_prevents_it(any_database: None) -> None:
    assert await undo_once(models.UsersIdempotencyRecord, KEY, remove) is None

    with pytest.raises(StepAlreadyUndone):
        await run_once(models.UsersIdempotencyRecord, KEY, add("ten_1"))
    assert await effects() == 0


async def test_late_attempt_of_an_undone_step_has_no_effect(any_database: None) -> None:
    await run_once(models.UsersIdempotencyRecord, KEY, add("ten_1"))
    await undo_once(models.UsersIdempotencyRecord, KEY, remove)

    with pytest.raises(StepAlreadyUndone):
        await run_once(models.UsersIdempotencyRecord, KEY, add("ten_1"))
    assert await effects() == 0


async def test_failed_undo_can_be_repeated(any_database: None) -> None:
    async def fail(answer: JsonValue) -> None:
        await remove(answer)
        raise ConnectionError

    await run_once(models.UsersIdempotencyRecord, KEY, add("ten_1"))
    with pytest.raises(ConnectionError):
        await undo_once(models.UsersIdempotencyRecord, KEY, fail)
    assert await effects() == 1

    await undo_once(models.UsersIdempotencyRecord, KEY, remove)
    assert await effects() == 0


async def test_concurrent_attempts_take_effect_once(postgres_database: None) -> None:
    answers = await asyncio.gather(*(run_once(models.UsersIdempotencyRecord, KEY, add("ten_1")) for _ in range(20)))

    assert len(set(map(str, answers))) == 1
    assert await effects() == 1


async def test_attempt_that_conflicts_with_a_running_one_returns_its_result(postgres_database: None) -> None:
    async def add_if_absent() -> JsonValue:
        if await models.Affiliation.exists(user_id="usr_1", tenant_id="ten_1"):
            raise InvalidInput("It is there already.")
        answer = await add("ten_1")()
        await asyncio.sleep(0.05)
        return answer

    answers = await asyncio.gather(*(run_once(models.UsersIdempotencyRecord, KEY, add_if_absent) for _ in range(10)))

    assert len(set(map(str, answers))) == 1


@pytest.mark.parametrize("round_", range(10))
async def test_concurrent_step_and_undo_leave_no_effect(postgres_database: None, round_: int) -> None:
    tries = [run_once(models.UsersIdempotencyRecord, KEY, add("ten_1")) for _ in range(3)]
    undos = [undo_once(models.UsersIdempotencyRecord, KEY, remove) for _ in range(3)]

    outcomes = await asyncio.gather(*tries, *undos, return_exceptions=True)

    assert all(isinstance(outcome, str | None | StepAlreadyUndone) for outcome in outcomes)
    assert await effects() == 0


@pytest.mark.parametrize("yields", range(12))
async def test_cancellation_at_any_point_leaves_the_database_usable(any_database: None, yields: int) -> None:
    task = asyncio.create_task(run_once(models.UsersIdempotencyRecord, KEY, add("ten_1")))
    for _ in range(yields):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    async with asyncio.timeout(5):
        await undo_once(models.UsersIdempotencyRecord, KEY, remove)
        assert await atomic(effects) == 0


class Work:
    """A step that acts when the test lets it, and counts how often it began to act and was taken back."""

    def __init__(self) -> None:
        self.begun = self.taken_back = 0
        self.has_begun, self.may_end = asyncio.Event(), asyncio.Event()

    async def act(self) -> JsonValue:
        self.begun += 1
        self.has_begun.set()
        answer = await add("ten_1")()
        await self.may_end.wait()
        return answer

    async def take_back(self, answer: JsonValue) -> None:
        self.taken_back += 1
        await models.Affiliation.filter(tenant_id=answer).delete()


async def has_ended(task: asyncio.Task[JsonValue]) -> bool:
    """Within a moment in which it would have, did nothing hold it up."""
    return bool((await asyncio.wait((task,), timeout=0.3))[0])


async def test_second_attempt_waits_for_the_first_and_has_no_effect(
    postgres_database: None,
) -> None:
    work = Work()
    first = asyncio.create_task(run_once(models.UsersIdempotencyRecord, KEY, work.act))
    await work.has_begun.wait()
    second = asyncio.create_task(run_once(models.UsersIdempotencyRecord, KEY, work.act))
    assert not await has_ended(second)
    assert work.begun == 1
    work.may_end.set()

    assert [await each for each in (first, second)] == ["ten_1", "ten_1"]
    assert work.begun == 1
    assert await effects() == 1


async def test_undo_waits_for_the_running_step_and_reverts_it(postgres_database: None) -> None:
    work = Work()
    step = asyncio.create_task(run_once(models.UsersIdempotencyRecord, KEY, work.act))
    await work.has_begun.wait()
    undoing = asyncio.create_task(undo_once(models.UsersIdempotencyRecord, KEY, work.take_back))
    assert not await has_ended(undoing)
    work.may_end.set()

    assert [await each for each in (step, undoing)] == ["ten_1", "ten_1"]
    assert (work.begun, work.taken_back) == (1, 1)
    assert await effects() == 0


async def test_concurrent_undos_revert_once(postgres_database: None, shared_postgres_url: str) -> None:
    work = Work()
    work.may_end.set()
    await run_once(models.UsersIdempotencyRecord, KEY, work.act)
    async with held_row(shared_postgres_url, "users_idempotency_record", "key", KEY) as row:
        undoing = [await row.queue(undo_once(models.UsersIdempotencyRecord, KEY, work.take_back)) for _ in range(3)]

    assert await asyncio.gather(*undoing) == ["ten_1"] * 3
    assert work.taken_back == 1

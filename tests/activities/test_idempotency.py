"""The laws of the ledger: done at most once, undone at most once, whatever answers get lost on the way."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from pydantic import JsonValue
from tortoise.exceptions import IntegrityError

from activities.idempotency import once, undo
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


async def test_a_step_that_is_tried_again_gives_its_first_answer_and_acts_no_more(opened: None) -> None:
    first = await once(models.UsersEffect, KEY, add("ten_1"))
    again = await once(models.UsersEffect, KEY, add("ten_2"))

    assert first == again
    assert await effects() == 1


async def test_a_step_that_failed_can_be_tried_again(opened: None) -> None:
    async def fail() -> JsonValue:
        await add("ten_1")()
        raise InvalidInput()

    with pytest.raises(InvalidInput):
        await once(models.UsersEffect, KEY, fail)
    assert await effects() == 0

    await once(models.UsersEffect, KEY, add("ten_1"))
    assert await effects() == 1


async def test_a_constraint_that_the_step_itself_breaks_is_trouble(opened: None) -> None:
    await add("ten_1")()

    with pytest.raises(IntegrityError):
        await once(models.UsersEffect, KEY, add("ten_1"))


async def test_an_undo_takes_back_once(opened: None) -> None:
    await once(models.UsersEffect, KEY, add("ten_1"))

    answers = [await undo(models.UsersEffect, KEY, remove) for _ in range(2)]

    assert await effects() == 0
    assert answers[0] == answers[1] is not None


async def test_an_undo_before_the_step_forestalls_it(opened: None) -> None:
    assert await undo(models.UsersEffect, KEY, remove) is None

    with pytest.raises(StepAlreadyUndone):
        await once(models.UsersEffect, KEY, add("ten_1"))
    assert await effects() == 0


async def test_a_late_try_of_a_step_that_was_undone_acts_no_more(opened: None) -> None:
    await once(models.UsersEffect, KEY, add("ten_1"))
    await undo(models.UsersEffect, KEY, remove)

    with pytest.raises(StepAlreadyUndone):
        await once(models.UsersEffect, KEY, add("ten_1"))
    assert await effects() == 0


async def test_an_undo_that_failed_can_be_tried_again(opened: None) -> None:
    async def fail(answer: JsonValue) -> None:
        await remove(answer)
        raise ConnectionError

    await once(models.UsersEffect, KEY, add("ten_1"))
    with pytest.raises(ConnectionError):
        await undo(models.UsersEffect, KEY, fail)
    assert await effects() == 1

    await undo(models.UsersEffect, KEY, remove)
    assert await effects() == 0


async def test_tries_of_one_step_at_the_same_time_act_once(on_postgres: None) -> None:
    answers = await asyncio.gather(*(once(models.UsersEffect, KEY, add("ten_1")) for _ in range(20)))

    assert len(set(map(str, answers))) == 1
    assert await effects() == 1


async def test_a_try_that_finds_the_effect_of_another_one_under_way_gets_its_answer(on_postgres: None) -> None:
    async def add_if_absent() -> JsonValue:
        if await models.Affiliation.exists(user_id="usr_1", tenant_id="ten_1"):
            raise InvalidInput("It is there already.")
        answer = await add("ten_1")()
        await asyncio.sleep(0.05)
        return answer

    answers = await asyncio.gather(*(once(models.UsersEffect, KEY, add_if_absent) for _ in range(10)))

    assert len(set(map(str, answers))) == 1


@pytest.mark.parametrize("round_", range(10))
async def test_a_step_and_its_undo_at_the_same_time_leave_nothing(on_postgres: None, round_: int) -> None:
    tries = [once(models.UsersEffect, KEY, add("ten_1")) for _ in range(3)]
    undos = [undo(models.UsersEffect, KEY, remove) for _ in range(3)]

    outcomes = await asyncio.gather(*tries, *undos, return_exceptions=True)

    assert all(isinstance(outcome, str | None | StepAlreadyUndone) for outcome in outcomes)
    assert await effects() == 0


@pytest.mark.parametrize("yields", range(12))
async def test_a_cancellation_at_any_moment_leaves_the_database_usable(opened: None, yields: int) -> None:
    task = asyncio.create_task(once(models.UsersEffect, KEY, add("ten_1")))
    for _ in range(yields):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    async with asyncio.timeout(5):
        await undo(models.UsersEffect, KEY, remove)
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


async def test_a_second_try_acts_only_after_the_first_one_has_ended_and_not_if_that_acted(on_postgres: None) -> None:
    work = Work()
    first = asyncio.create_task(once(models.UsersEffect, KEY, work.act))
    await work.has_begun.wait()
    second = asyncio.create_task(once(models.UsersEffect, KEY, work.act))
    assert not await has_ended(second)
    assert work.begun == 1
    work.may_end.set()

    assert [await each for each in (first, second)] == ["ten_1", "ten_1"]
    assert work.begun == 1
    assert await effects() == 1


async def test_an_undo_that_overtakes_its_step_waits_for_it_and_takes_it_back(on_postgres: None) -> None:
    work = Work()
    step = asyncio.create_task(once(models.UsersEffect, KEY, work.act))
    await work.has_begun.wait()
    undoing = asyncio.create_task(undo(models.UsersEffect, KEY, work.take_back))
    assert not await has_ended(undoing)
    work.may_end.set()

    assert [await each for each in (step, undoing)] == ["ten_1", "ten_1"]
    assert (work.begun, work.taken_back) == (1, 1)
    assert await effects() == 0


async def test_undos_at_the_same_time_take_back_once(on_postgres: None, shared_postgres_url: str) -> None:
    work = Work()
    work.may_end.set()
    await once(models.UsersEffect, KEY, work.act)
    async with held_row(shared_postgres_url, "users_effect", "key", KEY) as row:
        undoing = [await row.queue(undo(models.UsersEffect, KEY, work.take_back)) for _ in range(3)]

    assert await asyncio.gather(*undoing) == ["ten_1"] * 3
    assert work.taken_back == 1

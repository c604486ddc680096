"""One watcher: what it gives back, what it believes while Temporal fails, and in which order it tells states."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import pytest
from temporalio.client import Client
from temporalio.service import RPCStatusCode

from contracts.base import utc_now
from contracts.errors import OperationNotFound, ServiceUnavailable
from contracts.operations import Operation, OperationKind, OperationState, OperationStatus, Position, StepStatus
from infrastructure.operation_history import operation_of
from resolvers import watcher
from resolvers.budget import Budget
from resolvers.progress import ProgressHub
from resolvers.watcher import Mode, Watcher
from tests.gateway.serving import until
from tests.resolvers.polls import with_polls
from tests.resolvers.scripted import OWNER, ScriptStarter, scripts

LOST = [RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.INTERNAL]


@pytest.fixture
async def starter(temporal_client: Client) -> AsyncIterator[ScriptStarter]:
    async with scripts(temporal_client) as starter:
        yield starter


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """It tries again at once what failed."""
    monkeypatch.setattr(watcher, "_BACKOFF_SECONDS", (0.01, 0.02))


class Heard:
    """What one subscriber is told, and what the observer of the hub is shown."""

    def __init__(self) -> None:
        self.revisions: list[int] = []
        self.observed: list[tuple[int, ...]] = []

    async def observe(self, operation: Operation) -> None:
        self.observed.append(operation.position.as_tuple())

    async def follow(self, states: AsyncGenerator[Operation]) -> None:
        async with aclosing(states):
            async for operation in states:
                self.revisions.append(operation.position.revision)


async def next_of(states: AsyncGenerator[Operation]) -> Operation:
    async with asyncio.timeout(15):
        return await anext(states)


def watching(operation_id: str) -> list[str]:
    """The names of the tasks that work for a watcher of the operation."""
    names = (f"watch {operation_id}", f"look in on {operation_id}")
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name() in names]


# ------------------------------------------------------------------------------------------- what it gives back


@pytest.mark.parametrize("why", ["it has closed", "nobody follows it", "it was never there"])
async def test_a_long_poll_is_free_for_another_operation_once(
    temporal_client: Client, starter: ScriptStarter, why: str
) -> None:
    lingers = 60 if why == "it has closed" else 0
    budget = Budget(long_polls=1)
    async with ProgressHub(temporal_client, budget=budget, linger_seconds=lingers) as hub:
        for _ in range(2):
            script = await starter.start()
            if why == "it was never there":
                with pytest.raises(OperationNotFound):
                    await next_of(hub.watch("login-" + "0" * 32))
            states = hub.watch(script.id)
            await next_of(states)
            delivery = hub.delivery(script.id)
            assert delivery is not None
            assert delivery.mode is Mode.STREAM
            await script.end()
            if why == "it has closed":
                assert (await next_of(states)).is_closed
            await states.aclose()
            await until(lambda id=script.id: watching(id) == [])  # type: ignore[misc]
        assert budget.take()
        assert not budget.take()


@pytest.mark.parametrize("long_polls", [1, 0])
async def test_the_last_to_leave_ends_the_tasks_of_a_watcher(
    temporal_client: Client, starter: ScriptStarter, long_polls: int
) -> None:
    budget = Budget(long_polls=long_polls)
    async with ProgressHub(temporal_client, budget=budget, linger_seconds=0.05) as hub:
        script = await starter.start()
        first, second = hub.watch(script.id), hub.watch(script.id)
        await next_of(first)
        await next_of(second)
        assert (len(watching(script.id)), budget.described) == (2, 1 - long_polls)
        await first.aclose()
        await asyncio.sleep(0.3)
        assert len(watching(script.id)) == 2, "somebody still follows it"
        await second.aclose()
        await until(lambda: watching(script.id) == [])
        assert budget.described == 0
        await script.end()


async def test_who_comes_back_while_a_watcher_lingers_keeps_it(temporal_client: Client, starter: ScriptStarter) -> None:
    client, polls = with_polls(temporal_client)
    async with ProgressHub(client, linger_seconds=0.5) as hub:
        script = await starter.start()
        for _ in range(2):
            states = hub.watch(script.id)
            await next_of(states)
            await states.aclose()
        states = hub.watch(script.id)
        await next_of(states)
        await asyncio.sleep(1)
        assert polls.started == 1
        await script.move()
        assert (await next_of(states)).position.revision == 1
        await states.aclose()
        await script.end()


async def test_closing_the_hub_ends_every_stream_as_a_lost_connection(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    script = await starter.start()
    hub = ProgressHub(temporal_client)
    states = hub.watch(script.id)
    await next_of(states)
    waiting = asyncio.create_task(next_of(states))
    await asyncio.sleep(0)
    await hub.__aexit__(None, None, None)
    with pytest.raises(ServiceUnavailable) as told:
        await waiting
    assert told.value.service == "gateway"
    assert watching(script.id) == []
    await script.end()


async def test_who_overheard_an_operation_leaves_nothing_behind(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    async with ProgressHub(temporal_client) as hub:
        script, news, others = await starter.start(), asyncio.Event(), asyncio.Event()
        states = hub.watch(script.id)
        await next_of(states)
        with hub.overhearing(script.id, others):
            with hub.overhearing(script.id, news):
                await script.move()
                await next_of(states)
                await asyncio.wait_for(news.wait(), 5)
            news.clear()
            others.clear()
            await script.end()
            await next_of(states)
            await asyncio.wait_for(others.wait(), 5)
            assert not news.is_set()
        assert hub._overhearing == {}  # noqa: SLF001 - it would grow by one for each operation
        await states.aclose()


# ------------------------------------------------------------------------------------------- while Temporal fails


@pytest.mark.parametrize("times", [1, 5])
async def test_a_known_operation_that_is_not_found_at_times_goes_on(
    temporal_client: Client, starter: ScriptStarter, soon: None, times: int
) -> None:
    """As while a namespace moves to another cluster. What was borne before a success does not count."""
    client, polls = with_polls(temporal_client)
    async with ProgressHub(client) as hub:
        script = await starter.start()
        states = hub.watch(script.id)
        await next_of(states)
        for revision in (1, 2, 3):
            polls.fail(RPCStatusCode.NOT_FOUND, times)
            await script.move()
            assert (await next_of(states)).position.revision == revision
            await until(lambda: not polls.failing)
        await script.end()
        assert (await next_of(states)).is_closed
        await states.aclose()
    assert polls.failed == 3 * times


async def test_a_known_operation_that_is_not_found_six_times_in_a_row_is_gone(
    temporal_client: Client, starter: ScriptStarter, soon: None
) -> None:
    client, polls = with_polls(temporal_client)
    async with ProgressHub(client) as hub:
        script = await starter.start()
        states = hub.watch(script.id)
        await next_of(states)
        polls.fail(RPCStatusCode.NOT_FOUND, 100)
        await script.move()  # for the poll under way to return
        with pytest.raises(OperationNotFound):
            await Heard().follow(states)
        assert polls.failed == 6
        polls.failing.clear()
        again = hub.watch(script.id)
        await next_of(again)  # who asks anew has it looked for anew
        await again.aclose()
        await script.end()


async def test_a_page_token_that_a_restarted_server_does_not_know_is_dropped_and_nothing_told_twice(
    temporal_client: Client, starter: ScriptStarter, soon: None
) -> None:
    client, polls = with_polls(temporal_client)
    heard = Heard()
    async with ProgressHub(client, observe=heard.observe) as hub:
        script = await starter.start()
        following = asyncio.create_task(heard.follow(hub.watch(script.id)))
        await until(lambda: heard.revisions == [0])
        for revision in (1, 2):
            await script.move()
            await until(lambda last=revision: heard.revisions[-1] == last)  # type: ignore[misc]
        polls.forget_tokens()
        await script.move()  # for the poll under way to return
        await until(lambda: heard.revisions[-1] == 3)
        await until(lambda: polls.failed == 1)
        await script.move()
        await until(lambda: heard.revisions[-1] == 4)
        await script.end()
        await following
    assert heard.revisions == [0, 1, 2, 3, 4, 5]
    assert heard.observed == sorted(set(heard.observed)), "history is read from its beginning, and told once"
    assert polls.failed == 1


@pytest.mark.parametrize("status", LOST)
async def test_a_state_is_not_called_current_while_temporal_does_not_answer(
    temporal_client: Client, starter: ScriptStarter, soon: None, status: RPCStatusCode
) -> None:
    client, polls = with_polls(temporal_client)
    async with ProgressHub(client) as hub:
        script = await starter.start()
        states = hub.watch(script.id)
        await next_of(states)
        known, streamed = hub.known(script.id), hub.streamed(script.id)
        assert known is not None
        assert streamed is not None
        assert known.position.revision == streamed.position.revision == 0
        polls.fail(status, 10_000)
        await script.move()
        await until(lambda: polls.failed > 0)
        for _ in range(20):
            assert (hub.known(script.id), hub.streamed(script.id)) == (None, None)
            await asyncio.sleep(0.01)
        assert hub.watching == 1, "whatever ails Temporal is not the end"
        polls.failing.clear()
        await script.move()
        while (await next_of(states)).position.revision < 2:
            pass
        known, streamed = hub.known(script.id), hub.streamed(script.id)
        assert known is not None
        assert streamed is not None
        await states.aclose()
        await script.end()


async def test_what_is_described_at_an_interval_is_not_called_streamed(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    async with ProgressHub(temporal_client, budget=Budget(long_polls=0)) as hub:
        script = await starter.start()
        states = hub.watch(script.id)
        await next_of(states)
        assert hub.known(script.id) is not None
        assert hub.streamed(script.id) is None
        await states.aclose()
        await script.end()


async def test_who_waits_too_long_for_a_first_state_is_told_that_temporal_is_away(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    client, polls = with_polls(temporal_client)
    polls.may_fetch.clear()
    script = await starter.start()
    watching = Watcher(client, script.id, Budget())
    with pytest.raises(ServiceUnavailable) as told:
        await watching.first(0.1)
    assert told.value.service == "temporal"
    await watching.stop()
    await script.end()


async def test_described_operations_are_looked_at_once_a_second_each_and_a_hundred_times_in_all(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    client, polls = with_polls(temporal_client)
    budget = Budget(long_polls=0)
    async with ProgressHub(client, budget=budget) as hub:
        script = await starter.start()
        states = hub.watch(script.id)
        await next_of(states)
        before = len(polls.descriptions)
        await asyncio.sleep(3)
        assert 1 <= len(polls.descriptions) - before <= 4
        budget.described += 999
        assert budget.interval == 10
        budget.described -= 999
        await states.aclose()
        await script.end()


# ------------------------------------------------------------------------------------------- the order of states


async def test_each_of_several_states_of_one_page_is_told_by_itself(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    client, polls = with_polls(temporal_client)
    heard = Heard()
    async with ProgressHub(client, observe=heard.observe) as hub:
        script = await starter.start()
        following = asyncio.create_task(heard.follow(hub.watch(script.id)))
        await until(lambda: heard.revisions == [0])
        polls.may_fetch.clear()
        for _ in range(4):
            await script.move()
        async with asyncio.timeout(15):
            while (await operation_of(await script.handle.describe(), client)).position.revision < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert heard.revisions == [0]
        polls.may_fetch.set()
        await script.end()
        await following
    assert heard.revisions == [0, 1, 2, 3, 4, 5]
    assert [position[1] for position in heard.observed] == heard.revisions


async def test_of_an_operation_that_has_moved_before_only_the_newest_state_is_told(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    heard = Heard()
    script = await starter.start()
    for _ in range(3):
        await script.move()
    await script.end()
    await script.handle.result()
    async with ProgressHub(temporal_client, observe=heard.observe) as hub:
        await heard.follow(hub.watch(script.id))
    assert heard.revisions == [4]
    assert len(heard.observed) == 1


async def test_a_state_that_was_being_observed_does_not_replace_a_newer_one(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    """History and a description bring two states at one moment, and the newer one is through first."""
    client, polls = with_polls(temporal_client)
    polls.may_fetch.clear()
    may_go_on, begun = asyncio.Event(), asyncio.Event()

    async def observe(operation: Operation) -> None:
        if operation.position.revision == 1:
            begun.set()
            await may_go_on.wait()

    script = await starter.start()
    watching = Watcher(client, script.id, Budget(), observe)
    older = asyncio.create_task(watching._publish(at(script.id, 1)))  # noqa: SLF001 - the two ways meet there
    await begun.wait()
    await watching._publish(at(script.id, 2))  # noqa: SLF001
    may_go_on.set()
    await older
    assert watching.latest.position.revision == 2
    await watching._publish(at(script.id, 1))  # noqa: SLF001
    assert watching.latest.position.revision == 2
    await watching.stop()
    await script.end()


def at(operation_id: str, revision: int) -> Operation:
    first = OperationState.first(OperationKind.TENANT_SWITCH, utc_now(), started_by=OWNER)
    return Operation(
        id=operation_id,
        kind=OperationKind.TENANT_SWITCH,
        user_id=OWNER,
        tenant_ids=(),
        state=first.model_copy(update={"revision": revision, "status": OperationStatus.RUNNING}),
        position=Position(revision=revision),
    )


async def test_the_part_done_that_is_told_of_a_step_does_not_fall_though_that_of_its_attempts_does(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    client, polls = with_polls(temporal_client)
    async with ProgressHub(client) as hub:
        states = hub.watch(await starter.start_labour())
        async with asyncio.timeout(40), aclosing(states):
            steps = [operation.state.steps[0] async for operation in states]
    described = [(await operation_of(each, client)).state.steps[0].fraction or 0.0 for each in polls.descriptions]
    assert described != sorted(described), "the second attempt begins anew"
    told = [step.fraction for step in steps if step.status in (StepStatus.RUNNING, StepStatus.RETRYING)]
    known = [fraction for fraction in told if fraction is not None]
    assert max(known) == 0.5
    assert known == sorted(known)
    first = next(index for index, fraction in enumerate(told) if fraction is not None)
    assert None not in told[first:]


async def test_what_only_history_tells_is_enough_once_nobody_looks_any_more(
    temporal_client: Client, starter: ScriptStarter
) -> None:
    client, polls = with_polls(temporal_client)
    async with ProgressHub(client) as hub:
        labour = await starter.start_labour()
        quiet = hub.watch(labour, quietly=True)
        await next_of(quiet)
        loud = hub.watch(labour)
        await next_of(loud)
        await until(lambda: len(polls.descriptions) > 0)
        await loud.aclose()
        await asyncio.sleep(0.6)  # in which a look that was due already may be made
        before = len(polls.descriptions)
        await asyncio.sleep(1.5)
        assert len(polls.descriptions) == before
        await quiet.aclose()

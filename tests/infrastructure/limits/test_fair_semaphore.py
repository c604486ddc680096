"""One client at its worst leaves slots and queue to the others."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

import pytest

from contracts.errors import RateLimited
from infrastructure.limits.fair_semaphore import FairSemaphore, Requester

MALLORY, ADA = Requester("198.51.100.7", "mallory"), Requester("192.0.2.1", "ada")


class Work:
    """Requests that hold a slot until the test lets one end; notes the order in which they had one."""

    def __init__(self, queue: FairSemaphore) -> None:
        self.queue = queue
        self.began: list[Requester] = []
        self.refused: list[Requester] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._ends: list[asyncio.Event] = []

    async def ask(self, requester: Requester, times: int = 1) -> None:
        self.tasks += [asyncio.create_task(self._work(requester)) for _ in range(times)]
        await settle()

    async def end_one(self) -> None:
        self._ends.pop(0).set()
        await settle()

    @property
    def running(self) -> int:
        return len(self._ends)

    async def _work(self, requester: Requester) -> None:
        try:
            async with self.queue.slot(requester):
                self.began.append(requester)
                end = asyncio.Event()
                self._ends.append(end)
                await end.wait()
        except RateLimited:
            self.refused.append(requester)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_flood_of_one_client_leaves_a_slot_for_another_client() -> None:
    work = Work(FairSemaphore(4, share=2, max_waiting=100))
    await work.ask(MALLORY, 90)
    assert work.running == 2

    await work.ask(ADA)
    assert work.began[-1] == ADA


async def test_account_has_one_share_across_all_its_clients() -> None:
    work = Work(FairSemaphore(8, share=2, max_waiting=100))
    for number in range(50):
        await work.ask(Requester(f"198.51.100.{number}", "mallory"))
    assert work.running == 2

    await work.ask(ADA)
    assert work.began[-1] == ADA


async def test_clients_are_served_in_turn_regardless_of_their_waiting_requests() -> None:
    work = Work(FairSemaphore(1, share=1, max_waiting=100))
    await work.ask(MALLORY, 50)
    await work.ask(ADA)
    await work.end_one()
    await work.end_one()

    assert ADA in work.began[1:3]


async def test_accounts_of_one_client_are_served_in_turn() -> None:
    work = Work(FairSemaphore(1, share=1, max_waiting=100))
    await work.ask(Requester("192.0.2.1", "mallory"), 50)
    await work.ask(ADA)
    await work.end_one()
    await work.end_one()

    assert ADA in work.began[1:3]


async def test_full_queue_refuses_the_client_that_fills_it() -> None:
    work = Work(FairSemaphore(1, share=1, max_waiting=10))
    await work.ask(MALLORY, 30)
    assert work.refused == [MALLORY] * 19
    await work.ask(ADA, 3)

    assert work.refused == [MALLORY] * 22
    assert work.queue.waiting == 10


async def test_cancelled_waiting_request_leaves_the_queue_without_a_slot() -> None:
    work = Work(FairSemaphore(2, share=1, max_waiting=100))
    await work.ask(MALLORY, 5)
    for task in work.tasks[1:]:
        task.cancel()
    await settle()
    assert work.queue.waiting == 0
    await work.end_one()

    async with AsyncExitStack() as stack:
        for requester in (MALLORY, ADA):
            async with asyncio.timeout(1):
                await stack.enter_async_context(work.queue.slot(requester))


async def test_slot_granted_to_a_cancelled_request_goes_to_the_next() -> None:
    work = Work(FairSemaphore(1, share=1, max_waiting=100))
    await work.ask(MALLORY, 2)
    await work.ask(ADA)
    work._ends.pop(0).set()  # noqa: SLF001
    await asyncio.sleep(0)
    work.tasks[1].cancel()
    await settle()

    assert work.began == [MALLORY, ADA]


@pytest.mark.parametrize("seed", range(20))
async def test_all_slots_are_free_after_random_releases_and_cancellations(seed: int) -> None:
    dice = random.Random(seed)
    queue = FairSemaphore(3, share=2, max_waiting=15)

    async def hold(requester: Requester) -> None:
        async with queue.slot(requester):
            await asyncio.sleep(dice.random() / 200)

    tasks = []
    for _ in range(120):
        requester = Requester(str(dice.randrange(3)), str(dice.randrange(4)))
        tasks.append(asyncio.create_task(hold(requester)))
        if dice.random() < 0.3:
            dice.choice(tasks).cancel()
        await asyncio.sleep(dice.random() / 1000)
    await asyncio.gather(*tasks, return_exceptions=True)

    assert (queue.waiting, queue._free) == (0, 3)  # noqa: SLF001
    assert not queue._held_by_client  # noqa: SLF001


async def test_full_queue_refuses_the_newest_request_of_the_client_that_fills_it() -> None:
    work = Work(FairSemaphore(1, share=1, max_waiting=3))
    await work.ask(MALLORY, 4)
    await work.ask(ADA)
    assert [task.done() for task in work.tasks] == [False, False, False, True, False]
    assert work.refused == [MALLORY]


async def test_client_regains_its_share_when_it_releases_slots() -> None:
    work = Work(FairSemaphore(4, share=2, max_waiting=100))
    for number in range(6):
        await work.ask(Requester(MALLORY.client, f"account {number}"))
    for expected in (3, 4, 5, 6):
        await work.end_one()
        assert len(work.began) == expected
    assert work.running == 2


async def test_account_regains_its_share_when_it_releases_slots() -> None:
    work = Work(FairSemaphore(4, share=4, account_share=2, max_waiting=100))
    for number in range(6):
        await work.ask(Requester(f"198.51.100.{number}", MALLORY.account))
    for expected in (3, 4, 5, 6):
        await work.end_one()
        assert len(work.began) == expected
    assert work.running == 2


async def test_released_slot_admits_all_requests_that_its_holder_blocked() -> None:
    """One waits for the share of the client, the other for that of the account; two slots are free all the while."""
    work = Work(FairSemaphore(3, share=1, max_waiting=100))
    await work.ask(Requester("a network", "ada"))
    await work.ask(Requester("a network", "grace"))
    await work.ask(Requester("another network", "ada"))
    assert work.running == 1
    await work.end_one()
    assert work.running == 2


async def test_queue_of_length_zero_refuses_a_request_without_a_free_slot() -> None:
    work = Work(FairSemaphore(1, share=1, max_waiting=0))
    await work.ask(MALLORY)
    await work.ask(ADA, 2)
    assert (work.running, work.refused) == (1, [ADA, ADA])
    await work.end_one()
    await work.ask(ADA)
    assert work.running == 1


async def test_several_clients_together_can_hold_all_slots() -> None:
    work = Work(FairSemaphore(4, share=2, max_waiting=100))
    await work.ask(MALLORY, 3)
    assert work.running == 2
    await work.ask(ADA, 3)
    assert work.running == 4
    third = Requester("203.0.113.9", "grace")
    await work.ask(third)
    assert work.running == 4, "no slot is reserved for a new client"
    for _ in range(3):
        await work.end_one()
    assert third in work.began

"""One client at its worst leaves slots and semaphore to the others."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

import pytest

from contracts.errors import RateLimited
from infrastructure.limits.fair_semaphore import FairSemaphore, Requester

MALLORY, ADA = Requester("198.51.100.7", "mallory"), Requester("192.0.2.1", "ada")


class RequestRecorder:
    """Sends requests that hold a slot until ``end_first``, and records the order in which they are admitted."""

    def __init__(self, semaphore: FairSemaphore) -> None:
        self.semaphore = semaphore
        self.admitted: list[Requester] = []
        self.refused: list[Requester] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._ends: list[asyncio.Event] = []

    async def request(self, requester: Requester, times: int = 1) -> None:
        self.tasks += [asyncio.create_task(self._work(requester)) for _ in range(times)]
        await let_tasks_run()

    async def end_first(self) -> None:
        self._ends.pop(0).set()
        await let_tasks_run()

    @property
    def running(self) -> int:
        return len(self._ends)

    async def _work(self, requester: Requester) -> None:
        try:
            async with self.semaphore.slot(requester):
                self.admitted.append(requester)
                end = asyncio.Event()
                self._ends.append(end)
                await end.wait()
        except RateLimited:
            self.refused.append(requester)


async def let_tasks_run() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_flood_of_one_client_leaves_a_slot_for_another_client() -> None:
    requests = RequestRecorder(FairSemaphore(4, share=2, max_waiting=100))
    await requests.request(MALLORY, 90)
    assert requests.running == 2

    await requests.request(ADA)
    assert requests.admitted[-1] == ADA


async def test_account_has_one_share_across_all_its_clients() -> None:
    requests = RequestRecorder(FairSemaphore(8, share=2, max_waiting=100))
    for number in range(50):
        await requests.request(Requester(f"198.51.100.{number}", "mallory"))
    assert requests.running == 2

    await requests.request(ADA)
    assert requests.admitted[-1] == ADA


async def test_clients_are_served_in_turn_regardless_of_their_waiting_requests() -> None:
    requests = RequestRecorder(FairSemaphore(1, share=1, max_waiting=100))
    await requests.request(MALLORY, 50)
    await requests.request(ADA)
    await requests.end_first()
    await requests.end_first()

    assert ADA in requests.admitted[1:3]


async def test_accounts_of_one_client_are_served_in_turn() -> None:
    requests = RequestRecorder(FairSemaphore(1, share=1, max_waiting=100))
    await requests.request(Requester("192.0.2.1", "mallory"), 50)
    await requests.request(ADA)
    await requests.end_first()
    await requests.end_first()

    assert ADA in requests.admitted[1:3]


async def test_full_queue_refuses_the_client_that_fills_it() -> None:
    requests = RequestRecorder(FairSemaphore(1, share=1, max_waiting=10))
    await requests.request(MALLORY, 30)
    assert requests.refused == [MALLORY] * 19
    await requests.request(ADA, 3)

    assert requests.refused == [MALLORY] * 22
    assert requests.semaphore.waiting == 10


async def test_cancelled_waiting_request_leaves_the_queue_without_a_slot() -> None:
    requests = RequestRecorder(FairSemaphore(2, share=1, max_waiting=100))
    await requests.request(MALLORY, 5)
    for task in requests.tasks[1:]:
        task.cancel()
    await let_tasks_run()
    assert requests.semaphore.waiting == 0
    await requests.end_first()

    async with AsyncExitStack() as stack:
        for requester in (MALLORY, ADA):
            async with asyncio.timeout(1):
                await stack.enter_async_context(requests.semaphore.slot(requester))


async def test_slot_granted_to_a_cancelled_request_goes_to_the_next() -> None:
    requests = RequestRecorder(FairSemaphore(1, share=1, max_waiting=100))
    await requests.request(MALLORY, 2)
    await requests.request(ADA)
    requests._ends.pop(0).set()  # noqa: SLF001
    await asyncio.sleep(0)
    requests.tasks[1].cancel()
    await let_tasks_run()

    assert requests.admitted == [MALLORY, ADA]


@pytest.mark.parametrize("seed", range(20))
async def test_all_slots_are_free_after_random_releases_and_cancellations(seed: int) -> None:
    dice = random.Random(seed)
    semaphore = FairSemaphore(3, share=2, max_waiting=15)

    async def hold(requester: Requester) -> None:
        async with semaphore.slot(requester):
            await asyncio.sleep(dice.random() / 200)

    tasks = []
    for _ in range(120):
        requester = Requester(str(dice.randrange(3)), str(dice.randrange(4)))
        tasks.append(asyncio.create_task(hold(requester)))
        if dice.random() < 0.3:
            dice.choice(tasks).cancel()
        await asyncio.sleep(dice.random() / 1000)
    await asyncio.gather(*tasks, return_exceptions=True)

    assert (semaphore.waiting, semaphore._free) == (0, 3)  # noqa: SLF001
    assert not semaphore._held_by_client  # noqa: SLF001


async def test_full_queue_refuses_the_newest_request_of_the_client_that_fills_it() -> None:
    requests = RequestRecorder(FairSemaphore(1, share=1, max_waiting=3))
    await requests.request(MALLORY, 4)
    await requests.request(ADA)
    assert [task.done() for task in requests.tasks] == [False, False, False, True, False]
    assert requests.refused == [MALLORY]


async def test_client_regains_its_share_when_it_releases_slots() -> None:
    requests = RequestRecorder(FairSemaphore(4, share=2, max_waiting=100))
    for number in range(6):
        await requests.request(Requester(MALLORY.client, f"account {number}"))
    for expected in (3, 4, 5, 6):
        await requests.end_first()
        assert len(requests.admitted) == expected
    assert requests.running == 2


async def test_account_regains_its_share_when_it_releases_slots() -> None:
    requests = RequestRecorder(FairSemaphore(4, share=4, account_share=2, max_waiting=100))
    for number in range(6):
        await requests.request(Requester(f"198.51.100.{number}", MALLORY.account))
    for expected in (3, 4, 5, 6):
        await requests.end_first()
        assert len(requests.admitted) == expected
    assert requests.running == 2


async def test_released_slot_admits_all_requests_that_its_holder_blocked() -> None:
    """One request waits for the share of its client, the other for the share of its account; two slots are free."""
    requests = RequestRecorder(FairSemaphore(3, share=1, max_waiting=100))
    await requests.request(Requester("a network", "ada"))
    await requests.request(Requester("a network", "grace"))
    await requests.request(Requester("another network", "ada"))
    assert requests.running == 1
    await requests.end_first()
    assert requests.running == 2


async def test_queue_of_length_zero_refuses_a_request_without_a_free_slot() -> None:
    requests = RequestRecorder(FairSemaphore(1, share=1, max_waiting=0))
    await requests.request(MALLORY)
    await requests.request(ADA, 2)
    assert (requests.running, requests.refused) == (1, [ADA, ADA])
    await requests.end_first()
    await requests.request(ADA)
    assert requests.running == 1


async def test_several_clients_together_can_hold_all_slots() -> None:
    requests = RequestRecorder(FairSemaphore(4, share=2, max_waiting=100))
    await requests.request(MALLORY, 3)
    assert requests.running == 2
    await requests.request(ADA, 3)
    assert requests.running == 4
    third = Requester("203.0.113.9", "grace")
    await requests.request(third)
    assert requests.running == 4, "no slot is reserved for a new client"
    for _ in range(3):
        await requests.end_first()
    assert third in requests.admitted

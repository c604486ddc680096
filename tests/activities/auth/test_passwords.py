"""Hashing of passwords: its cost, and how its threads and its queue are shared between clients."""

import asyncio
import time

import pytest

from contracts.errors import RateLimited
from infrastructure.limits.fair_semaphore import Requester
from infrastructure.passwords import Passwords


@pytest.mark.parametrize("stored", [None, "", "!", "$argon2id$no hash"])
async def test_unknown_address_costs_the_same_hashing_work(passwords: Passwords, stored: str | None) -> None:
    known = await passwords.hash("correct horse")

    async def fastest(password_hash: str | None) -> float:
        times = []
        for _ in range(5):
            before = time.process_time()  # of all threads; others load the machine, too
            assert not await passwords.verify(password_hash, "wrong horse")
            times.append(time.process_time() - before)
        return min(times)

    assert await fastest(stored) > 0.5 * await fastest(known)


async def test_hashes_are_argon2id_with_19_mib_two_passes_and_one_lane(passwords: Passwords) -> None:
    assert (await passwords.hash("correct horse")).startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_logins_beyond_the_queue_are_rate_limited() -> None:
    passwords = Passwords(threads=1, max_waiting=2)

    outcomes = await asyncio.gather(*(passwords.verify(None, "guess") for _ in range(10)), return_exceptions=True)

    assert sum(isinstance(outcome, RateLimited) for outcome in outcomes) == 7
    assert not await passwords.verify(None, "guess")
    passwords.close()


async def test_two_passwords_are_hashed_concurrently_and_32_wait() -> None:
    passwords = Passwords()
    asked = (passwords.verify(None, "guess", Requester(f"client {n}", f"account {n}")) for n in range(60))

    outcomes = await asyncio.gather(*asked, return_exceptions=True)

    assert outcomes.count(False) == 2 + 32
    assert sum(isinstance(outcome, RateLimited) for outcome in outcomes) == 60 - 34
    passwords.close()


async def test_one_client_has_half_of_the_threads() -> None:
    passwords = Passwords(threads=4, max_waiting=0)
    asked = (passwords.verify(None, "guess", Requester("mallory", f"account {n}")) for n in range(10))

    outcomes = await asyncio.gather(*asked, return_exceptions=True)

    assert outcomes.count(False) == 2
    assert sum(isinstance(outcome, RateLimited) for outcome in outcomes) == 8
    passwords.close()


async def test_flood_of_one_client_delays_others_only_by_running_hashes() -> None:
    passwords = Passwords(threads=2, max_waiting=240)
    finished: list[str] = []
    has_begun = asyncio.Event()

    async def verify(client: str, account: str) -> None:
        await passwords.verify(None, "guess", Requester(client, account))
        finished.append(client)
        if len(finished) == 2:
            has_begun.set()

    flood = [asyncio.create_task(verify("mallory", "mallory@example.com")) for _ in range(240)]
    await has_begun.wait()
    before = len(finished)
    await verify("ada", "ada@example.com")

    assert finished[before:].count("mallory") <= 3
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    passwords.close()


async def test_cancelled_caller_keeps_its_slot_until_its_hash_is_done() -> None:
    passwords = Passwords(threads=1, max_waiting=0)
    leaving = asyncio.create_task(passwords.verify(None, "guess"))
    await asyncio.sleep(0.001)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)

    with pytest.raises(RateLimited):
        await passwords.verify(None, "guess", Requester("another", "another"))
    async with asyncio.timeout(5):
        while True:
            try:
                assert not await passwords.verify(None, "guess", Requester("another", "another"))
            except RateLimited:
                await asyncio.sleep(0.01)
            else:
                break
    passwords.close()


async def test_cancelled_callers_leave_no_slot_occupied() -> None:
    passwords = Passwords(threads=1, max_waiting=5)
    for _ in range(10):
        leaving = asyncio.create_task(passwords.verify(None, "guess"))
        await asyncio.sleep(0.005)
        leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)

    assert not await passwords.verify(None, "guess")
    passwords.close()


async def test_hashing_does_not_block_the_event_loop(passwords: Passwords) -> None:
    hashing = asyncio.gather(*(passwords.verify(None, "guess") for _ in range(6)))
    turns = 0
    while not hashing.done():
        await asyncio.sleep(0.001)
        turns += 1

    assert turns > 10

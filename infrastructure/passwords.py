"""Password hashing (Argon2id) in a thread pool, whose threads are shared fairly between clients and accounts."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from contracts.validation import normalized_password
from infrastructure.limits.fair_semaphore import FairSemaphore, Requester
from infrastructure.tasks import shielded

Outcome = TypeVar("Outcome")


INTERNAL = Requester(client="", account="")
"""Requester of hashes that no client requested, for instance those of demo data."""


class Passwords:
    """Hashes and verifies passwords: Argon2id with 19 MiB, two passes and one lane (the minimum that OWASP recommends).

    One client, and one account, use at most half of the threads, but at least one thread. Every password is normalized
    before it is hashed or compared, so that the Unicode form which a keyboard produces does not matter.

    Args:
        threads: Size of the thread pool.
        max_waiting: Requests that may wait for a thread; further requests are refused.
    """

    def __init__(self, threads: int = 2, max_waiting: int = 32) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
        self._dummy_hash = self._hasher.hash(secrets.token_hex())
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="passwords", initializer=_lower_priority)
        self._slots = FairSemaphore(threads, share=max(1, threads // 2), max_waiting=max_waiting)

    def close(self) -> None:
        """Stop the threads without waiting for them."""
        self._threads.shutdown(cancel_futures=True)

    async def hash(self, password: str, requester: Requester = INTERNAL) -> str:
        """Return the hash of the password in PHC format.

        Raises:
            RateLimited: Too many requests wait.
        """
        return await self._in_thread(requester, lambda: self._hasher.hash(normalized_password(password)))

    async def verify(self, password_hash: str | None, password: str, requester: Requester = INTERNAL) -> bool:
        """Return whether the password matches the hash.

        Without a valid hash, the same work is done before False is returned, so that the time does not reveal whether
        the account exists.

        Raises:
            RateLimited: Too many requests wait.
        """
        return await self._in_thread(requester, lambda: self._matches(password_hash, normalized_password(password)))

    def is_outdated(self, password_hash: str) -> bool:
        """Return whether the hash was computed with other parameters than the current ones."""
        return self._hasher.check_needs_rehash(password_hash)

    def _matches(self, password_hash: str | None, password: str) -> bool:
        if password_hash is not None:
            with suppress(InvalidHashError, VerificationError):
                return self._verify_hash(password_hash, password)
        self._verify_hash(self._dummy_hash, password)
        return False

    def _verify_hash(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except VerifyMismatchError:
            return False

    async def _in_thread(self, requester: Requester, work: Callable[[], Outcome]) -> Outcome:
        async def work_and_release() -> Outcome:
            try:
                return await asyncio.wrap_future(self._threads.submit(work))
            finally:
                self._slots.release(requester)

        await self._slots.acquire(requester)
        # The slot is held until the work ends, even if the caller is cancelled: a running thread cannot be stopped.
        return await shielded(work_and_release(), name="hash a password")


def _lower_priority() -> None:
    """Give this thread a lower priority than the event loop has. Only Linux supports priorities per thread."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)

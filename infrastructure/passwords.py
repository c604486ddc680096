"""Password hashing in threads beside the event loop, shared fairly between clients and accounts."""

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
from infrastructure.tasks import finish

Outcome = TypeVar("Outcome")


INTERNAL = Requester(client="", account="")
"""Requester of work that no client requested: demo data."""


class Passwords:
    """Argon2id with 19 MiB, two passes and one lane (OWASP's floor). ``waiting``: how many requests may wait.

    One client, and one account, use at most half of the threads, at least one. Every password is normalized before it
    is hashed or compared, so that it does not matter how a keyboard writes it.
    """

    def __init__(self, threads: int = 2, waiting: int = 32) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
        self._decoy = self._hasher.hash(secrets.token_hex())
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="passwords", initializer=_give_way)
        self._slots = FairSemaphore(threads, share=max(1, threads // 2), max_waiting=waiting)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    async def hash(self, password: str, requester: Requester = INTERNAL) -> str:
        """Return the hash in PHC format. Raises RateLimited if too many requests wait."""
        return await self._in_thread(requester, lambda: self._hasher.hash(normalized_password(password)))

    async def verify(self, password_hash: str | None, password: str, requester: Requester = INTERNAL) -> bool:
        """Return whether the password matches. Without a valid hash, return False after the same work.

        Raises:
            RateLimited: too many requests wait.
        """
        return await self._in_thread(requester, lambda: self._matches(password_hash, normalized_password(password)))

    def is_outdated(self, password_hash: str) -> bool:
        """Return whether the hash was made with other parameters than the current ones."""
        return self._hasher.check_needs_rehash(password_hash)

    def _matches(self, password_hash: str | None, password: str) -> bool:
        if password_hash is not None:
            with suppress(InvalidHashError, VerificationError):
                return self._is_of(password_hash, password)
        self._is_of(self._decoy, password)
        return False

    def _is_of(self, password_hash: str, password: str) -> bool:
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
        # The slot is held until the work ends, even if the caller is cancelled: the thread goes on working.
        return await finish(work_and_release(), name="hash a password")


def _give_way() -> None:
    """Give this thread a lower priority than the event loop's. Only Linux has a priority per thread."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)

"""Questions to Temporal's visibility: few, in turn, and those about running operations asked for many users at once.

Temporal allows a namespace ten visibility requests a second (``frontend.namespaceRPS.visibility``), and answers with
what it has indexed so far. All processes take turns, so that none of them is ever refused.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

import structlog
from aiocache.base import BaseCache
from temporalio.client import Client

from contracts.errors import OperationNotFound, RateLimited
from contracts.operations import ATTRIBUTE_TENANTS, ATTRIBUTE_USER, Operation
from infrastructure.tasks import SharedTask
from resolvers.cache import ANSWER_SECONDS, CACHE_IS_AWAY
from resolvers.deadlines import deadline
from resolvers.history import operation_of
from resolvers.rounds import Rounds

A_SECOND = 5
"""Requests of all processes together. Two seconds' worth may meet at the turn of a second: ten, which are allowed."""
USERS_AT_ONCE = 100
MOST = 2_000
"""Operations that one question is answered with; older ones are beyond it."""
RPC_SECONDS = timedelta(seconds=6)
WAIT_SECONDS = 8.0
"""How long somebody waits for a list; whoever asks again waits for the same one."""

log = structlog.get_logger()


class Turns:
    """Counts the requests of each second in the cache that all processes share, or here alone while that is away."""

    def __init__(self, cache: BaseCache, *, a_second: int = A_SECOND) -> None:
        self._cache = cache
        self._a_second = a_second
        self._here: tuple[int, int] = (0, 0)

    async def wait(self) -> None:
        """Return once it is our turn."""
        while True:
            now = time.time()
            if await self._count(int(now)) <= self._a_second:
                return
            await asyncio.sleep(max(0.0, int(now) + 1 - time.time()))

    async def _count(self, second: int) -> int:
        """Which request of this second ours would be, from 1."""
        counted, here = self._here
        here = here + 1 if counted == second else 1
        self._here = (second, here)
        try:
            async with deadline(ANSWER_SECONDS):
                key = f"visibility:{second}"
                count = int(await self._cache.increment(key))
                if count == 1:
                    await self._cache.expire(key, 10)
        except CACHE_IS_AWAY as error:
            log.warning("turns are taken alone", error=repr(error))
            return here
        return max(count, here)


class Visibility:
    """One a process. Closing it ends the questions under way."""

    def __init__(self, client: Client, turns: Turns, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self._client = client
        self._turns = turns
        self._wait_seconds = wait_seconds
        self._lists: dict[tuple[str, str], SharedTask[list[Operation]]] = {}
        self._running = Rounds(self._ask_for_many, most=USERS_AT_ONCE, at_once=1)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._running.aclose()
        for task in list(self._lists.values()):
            await task.stop()

    async def operations(self, user_id: str, tenant_id: str) -> list[Operation]:
        """The newest of a user's operations in a tenant. RateLimited where it is not our turn for long."""
        key = (user_id, tenant_id)
        task = self._lists.get(key)
        if task is None:  # the ids are our own: there is nothing to quote
            query = f"{ATTRIBUTE_USER} = '{user_id}' AND {ATTRIBUTE_TENANTS} = '{tenant_id}'"
            task = self._lists[key] = SharedTask(self._ask(query), name="ask for operations")
            task.when_done(lambda: self._lists.pop(key, None))
        try:
            async with deadline(self._wait_seconds):
                return await task.result()
        except TimeoutError as error:
            raise RateLimited(retry_after=self._wait_seconds) from error

    async def running(self, user_id: str) -> list[Operation]:
        """A user's operations that have not closed, in all tenants."""
        return await self._running.answer(user_id) or []

    async def _ask_for_many(self, user_ids: Sequence[str]) -> Mapping[str, list[Operation]]:
        """One question for all who came before it."""
        users = ", ".join(f"'{user_id}'" for user_id in user_ids)
        found = await self._ask(f"ExecutionStatus = 'Running' AND {ATTRIBUTE_USER} IN ({users})")
        return {user_id: [operation for operation in found if operation.user_id == user_id] for user_id in user_ids}

    async def _ask(self, query: str) -> list[Operation]:
        await self._turns.wait()
        return await self._pages(query)

    async def _pages(self, query: str) -> list[Operation]:
        """What the question finds. The turn for the first page has been taken."""
        pages = self._client.list_workflows(query, limit=MOST, rpc_timeout=RPC_SECONDS)
        found: dict[str, tuple[datetime, Operation]] = {}
        await pages.fetch_next_page()
        while True:
            for execution in pages.current_page or ():
                try:
                    operation = await operation_of(execution, self._client)
                except OperationNotFound:  # somebody else's workflow
                    pass
                except Exception as error:  # noqa: BLE001 - its key is gone, say: that keeps nobody from the others
                    log.error("an operation cannot be read", workflow_id=execution.id, error=repr(error))
                else:  # of an operation that was reset each run is a row of its own, and the newest counts
                    begun_before, _ = found.get(operation.id, (execution.start_time, None))
                    if execution.start_time >= begun_before:
                        found[operation.id] = execution.start_time, operation
            if pages.next_page_token is None or len(found) >= MOST:
                return [operation for _, operation in found.values()]
            await self._turns.wait()
            await pages.fetch_next_page()

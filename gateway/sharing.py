"""One execution a state for all sockets that ask the same of the same operation as the same viewer."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Iterator
from contextlib import aclosing, contextmanager
from typing import TypeAlias

from strawberry.types import ExecutionResult

from contracts.auth import Session
from contracts.operations import Operation
from gateway.cancelling import cancelled
from gateway.event_streams import payload_of
from gateway.session_watch import standing
from gateway.sessions import NoCookie
from resolvers.context import Context

Results: TypeAlias = AsyncGenerator[ExecutionResult, None]
Start: TypeAlias = Callable[[Context], Awaitable[Results]]


class BrokenOff(Exception):
    """A shared stream ended without having come to its end."""


class SharedContext(Context):
    """For a stream on behalf of everybody who is who this one is: it does not look up again who that is."""

    def __init__(self, one: Context, viewer: Session | None) -> None:
        super().__init__(
            one.backend, request_id=one.request_id, address=one.address, cookie=NoCookie(), token=one.token
        )
        self._shared_viewer = viewer

    def for_execution(self) -> Context:
        return self

    async def viewer(self) -> Session | None:
        return self._shared_viewer


def question(
    query: str,
    variables: dict[str, object] | None,
    operation_name: str | None,
    context: Context,
    viewer: Session | None,
) -> Hashable | None:
    """What has one answer for all who ask it: the same document and variables, from the same viewer at one address.

    None where who asks is not known, although they say who they are.
    """
    if viewer is None and context.token is not None:
        return None
    who = viewer and standing(viewer)
    return query, json.dumps(variables, sort_keys=True), operation_name, context.address, who


class Sharing:
    """What is asked in this process. The first to ask something is answered alone; the others share a stream."""

    def __init__(self) -> None:
        self._asked: Counter[Hashable] = Counter()
        self._groups: dict[Hashable, Group] = {}

    @contextmanager
    def asked(self, question: Hashable | None) -> Iterator[bool]:
        """While the block runs it is asked. Whether somebody asked the same before, and still does."""
        if question is None:
            yield False
            return
        self._asked[question] += 1
        try:
            yield self._asked[question] > 1
        finally:
            self._asked[question] -= 1
            if not self._asked[question]:
                del self._asked[question]

    @contextmanager
    def group(self, question: Hashable, context: Context, viewer: Session | None, start: Start) -> Iterator[Group]:
        """Take part in the group that is told the answers while the block runs; its first member has it started."""
        group = self._groups.get(question)
        if group is None or group.has_ended:
            group = self._groups[question] = Group(SharedContext(context, viewer), start)
        group.members += 1
        try:
            yield group
        finally:
            group.members -= 1
            if group.members == 0:
                if self._groups.get(question) is group:
                    del self._groups[question]
                group.stop()


class Group:
    """The newest result of one stream, written once: the one slot that all members share."""

    def __init__(self, context: SharedContext, start: Start) -> None:
        self.members = 0
        self.has_ended = False
        self._is_complete = False
        self._context = context
        self._start = start
        self._payload = ""
        self._state: Operation | None = None
        self._number = 0
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="tell a group")
        self._stopping: asyncio.Task[None] | None = None

    async def after(self, state: Operation) -> AsyncGenerator[tuple[str, Operation]]:
        """The payload of each newer state than this one, the newest where the taker is slow, to the stream's end.

        Raises BrokenOff.
        """
        number = 0
        while True:
            if number < self._number:
                number = self._number
                newest = self._state
                if newest is None or newest.position.as_tuple() > state.position.as_tuple():
                    state = newest or state
                    yield self._payload, state
            elif self._is_complete:
                return
            elif self.has_ended:
                raise BrokenOff()
            else:
                await self._news.wait()

    def stop(self) -> None:
        self._stopping = asyncio.create_task(cancelled(self._task))

    async def _run(self) -> None:
        try:
            async with aclosing(await self._start(self._context)) as results:
                async for result in results:
                    self._state = None if result.data is None else self._context.following.latest
                    self._payload = json.dumps(payload_of(result), separators=(",", ":"), ensure_ascii=False)
                    self._number += 1
                    self._tell()
                self._is_complete = True
        finally:
            self.has_ended = True
            self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

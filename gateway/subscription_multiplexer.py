"""One execution a state for all sockets that ask the same of the same operation as the same viewer."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Iterator
from contextlib import ExitStack, aclosing, contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias

from strawberry.types import ExecutionResult
from strawberry.types.execution import PreExecutionError

from contracts.auth import Session
from contracts.operations import Operation
from gateway.sessions.session_cache import NullCookie
from gateway.sessions.session_monitor import grant
from infrastructure.tasks import BackgroundTasks
from resolvers.context import Context
from resolvers.following.subscription_state import SubscriptionState

_JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


class GraphQLRequest(NamedTuple):
    """A request as it came."""

    query: str | None
    variables: dict[str, object] | None
    operation_name: str | None
    extensions: dict[str, object] | None = None


class SerializedResult(NamedTuple):
    """A result in JSON, and the operation that it shows; None where it only says why the stream ends."""

    payload: str
    state: Operation | None


Results: TypeAlias = AsyncGenerator[Any, None]
StreamedResults: TypeAlias = AsyncGenerator[Any, None]
"""Yields each result as an ExecutionResult, or as Written if several streams share it."""


class Start(Protocol):
    """As ``Schema.stream`` and ``Schema.subscribe`` are."""

    async def __call__(
        self,
        query: str | None,
        variable_values: dict[str, object] | None = None,
        context_value: Context | None = None,
        root_value: None = None,
        operation_name: str | None = None,
        operation_extensions: dict[str, object] | None = None,
    ) -> Results: ...


class StreamInterrupted(Exception):
    """A shared stream ended without having come to its end."""


class SharedContext(Context):
    """The context of a stream for all requests of the same viewer, who is not looked up again."""

    def __init__(self, one: Context, viewer: Session | None) -> None:
        super().__init__(
            one.backend,
            request_id=one.request_id,
            base_url=one.base_url,
            cookie=NullCookie(),
            token=one.token,
            expected_tenant=one.expected_tenant,
        )
        self._shared_viewer = viewer

    def for_execution(self) -> Context:
        return self

    async def viewer(self) -> Session | None:
        return self._shared_viewer


class SubscriptionMultiplexer:
    """What is asked in this process. The first to ask something is answered alone; the others share a stream."""

    def __init__(self) -> None:
        self._asking: Counter[Hashable] = Counter()
        self._groups: dict[Hashable, SharedSubscription] = {}
        self._tasks = BackgroundTasks()

    async def subscribe(self, asked: GraphQLRequest, context: Context, start: Start) -> StreamedResults:
        """Yield each result: from a stream of its own until a result shows a running operation that other clients ask
        for, too; from then on those of the stream that all of them share.

        Raises:
            BrokenOff: the shared stream has ended before its operation.
        """
        following = context.following
        viewer: Session | None = None
        with ExitStack() as stack:
            state: Operation | None = None
            async with aclosing(await _start(asked, context, start)) as results:
                async for result in results:
                    yield result
                    if state is None and (state := following.latest) is not None and not state.is_closed:
                        viewer = await context.viewer()
                        question = _question(asked, context, viewer)
                        if stack.enter_context(self._asked(question)):
                            update = stack.enter_context(following.operation(state.id))  # without a gap
                            break
                else:
                    return
            assert state is not None
            group = stack.enter_context(self._group(question, asked, SharedContext(context, viewer), start))
            async with aclosing(group.after(state)) as newer:
                async for written in newer:
                    if written.state is not None:
                        update(written.state)
                    yield written

    @contextmanager
    def _asked(self, question: Hashable | None) -> Iterator[bool]:
        """Count the question while the block runs. Yield whether another client is asking the same."""
        if question is None:
            yield False
            return
        self._asking[question] += 1
        try:
            yield self._asking[question] > 1
        finally:
            self._asking[question] -= 1
            if not self._asking[question]:
                del self._asking[question]

    @contextmanager
    def _group(
        self, question: Hashable, asked: GraphQLRequest, shared: SharedContext, start: Start
    ) -> Iterator[SharedSubscription]:
        """Take part in the group that receives the results while the block runs; its first member starts it."""
        group = self._groups.get(question)
        if group is None or group.has_ended:
            group = self._groups[question] = SharedSubscription(
                partial(_start, asked._replace(extensions=None), shared, start), shared.following, self._tasks
            )
        group.members += 1
        try:
            yield group
        finally:
            group.members -= 1
            if group.members == 0:
                if self._groups.get(question) is group:
                    del self._groups[question]
                group.stop()


class SharedSubscription:
    """The newest result of one stream, written once: the one slot that all members share."""

    def __init__(
        self, start: Callable[[], Awaitable[Results]], following: SubscriptionState, tasks: BackgroundTasks
    ) -> None:
        self.members = 0
        self.has_ended = False
        self._is_complete = False
        self._following = following
        self._newest: SerializedResult | None = None
        self._number = 0
        self._news = asyncio.Event()
        self._tasks = tasks
        self._task = tasks.start(self._run(start), name="share a stream")

    async def after(self, state: Operation) -> AsyncGenerator[SerializedResult]:
        """Each newer state than this one, the newest where the taker is slow, to the stream's end. Raises BrokenOff."""
        number = 0
        while True:
            if number < self._number and self._newest is not None:
                number, newest = self._number, self._newest
                if newest.state is None:
                    yield newest
                elif newest.state.position.as_tuple() > state.position.as_tuple():
                    state = newest.state
                    yield newest
            elif self._is_complete:
                return
            elif self.has_ended:
                raise StreamInterrupted()
            else:
                await self._news.wait()

    def stop(self) -> None:
        self._tasks.cancel(self._task)

    async def _run(self, start: Callable[[], Awaitable[Results]]) -> None:
        try:
            async with aclosing(await start()) as results:
                async for result in results:
                    self._newest = SerializedResult(
                        payload_of(result), None if result.data is None else self._following.latest
                    )
                    self._number += 1
                    self._notify()
                self._is_complete = True
        finally:
            self.has_ended = True
            self._notify()

    def _notify(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


async def _start(asked: GraphQLRequest, context: Context, start: Start) -> Results:
    results = await start(
        asked.query,
        variable_values=asked.variables,
        context_value=context,
        operation_name=asked.operation_name,
        operation_extensions=asked.extensions,
    )
    return results if context.expected_tenant is None else _with_current_tenant(results, context)


async def _with_current_tenant(results: Results, context: Context) -> Results:
    """Add the current tenant to each result if it is not the one that the client displays."""
    async with aclosing(results):
        async for result in results:
            if type(result) is ExecutionResult:
                await add_current_tenant(result, context)
            yield result


async def add_current_tenant(result: ExecutionResult, context: Context) -> None:
    """Add ``extensions.currentTenantId`` if the session is in another tenant than the client expects."""
    with suppress(Exception):  # the session is unknown: a result that needs it carries the error
        current = await context.unexpected_tenant_id()
        if current is not None:
            result.extensions = {**(result.extensions or {}), "currentTenantId": current}


def _question(asked: GraphQLRequest, context: Context, viewer: Session | None) -> Hashable | None:
    """What has one answer for all who ask it: the same document and variables, from the same viewer at one address.

    None if no other client asks the same: the token opens no session (yet), or the client may see more of a login.
    """
    if context.login_tokens or (viewer is None and context.token is not None):
        return None
    who = viewer and grant(viewer)
    variables, expected = json.dumps(asked.variables, sort_keys=True), context.expected_tenant
    return asked.query, variables, asked.operation_name, context.base_url, expected, who


def payload_of(result: ExecutionResult) -> str:
    """One result of a stream as clients read it, in JSON of one line."""
    payload: dict[str, object] = {} if isinstance(result, PreExecutionError) else {"data": result.data}
    if result.errors:
        payload["errors"] = [error.formatted for error in result.errors]
    if result.extensions:
        payload["extensions"] = result.extensions
    return _JSON.encode(payload)

"""The subscription multiplexer: executes equal subscriptions of viewers with the same access once for all of them."""

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
from gateway.sessions.cookies import NullCookie
from gateway.sessions.session_monitor import access_of
from infrastructure.tasks import BackgroundTasks
from resolvers.context import Context
from resolvers.following.subscription_state import SubscriptionState

_JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


class GraphQLRequest(NamedTuple):
    """A GraphQL request: document, variables, operation name and extensions."""

    query: str | None
    variables: dict[str, object] | None
    operation_name: str | None
    extensions: dict[str, object] | None = None


class SerializedResult(NamedTuple):
    """A result that was serialized once for all its subscribers.

    Attributes:
        payload: the result as JSON in one line.
        state: the state of the operation in the result; None if the result only has errors.
    """

    payload: str
    state: Operation | None


Results: TypeAlias = AsyncGenerator[Any, None]
StreamedResults: TypeAlias = AsyncGenerator[Any, None]
"""Yields each result: an ExecutionResult, or a SerializedResult if several streams share it."""


class StartSubscription(Protocol):
    """A function that starts a subscription, such as ``Schema.stream`` and ``Schema.subscribe``."""

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
    """A shared stream has ended before its subscription was complete; the client should reconnect."""


class SharedContext(Context):
    """The context of a shared stream: that of its first subscriber, with a viewer that is not read again."""

    def __init__(self, context: Context, viewer: Session | None) -> None:
        super().__init__(
            context.backend,
            request_id=context.request_id,
            base_url=context.base_url,
            cookie=NullCookie(),
            token=context.token,
            expected_tenant=context.expected_tenant,
        )
        self._shared_viewer = viewer

    def for_execution(self) -> Context:
        return self

    async def viewer(self) -> Session | None:
        return self._shared_viewer


class SubscriptionMultiplexer:
    """The subscriptions of this process. Equal subscriptions with the same access share one stream of results."""

    def __init__(self) -> None:
        self._subscriber_counts: Counter[Hashable] = Counter()
        self._shared: dict[Hashable, SharedSubscription] = {}
        self._tasks = BackgroundTasks()

    async def subscribe(self, request: GraphQLRequest, context: Context, start: StartSubscription) -> StreamedResults:
        """Yield each result of a subscription.

        The results come from an execution for this subscriber alone until a result contains a running operation which
        other subscribers of the same request follow, too. From then on they come from the stream that all share.

        Raises:
            StreamInterrupted: the shared stream has ended before its operation; the client should reconnect.
        """
        subscription = context.subscription
        viewer: Session | None = None
        with ExitStack() as stack:
            state: Operation | None = None
            async with aclosing(await _start(request, context, start)) as results:
                async for result in results:
                    yield result
                    if state is None and (state := subscription.latest) is not None and not state.is_closed:
                        viewer = await context.viewer()
                        key = _sharing_key(request, context, viewer)
                        if stack.enter_context(self._count_subscriber(key)):
                            # Entered before the own stream ends, so that the operation stays followed in between.
                            update = stack.enter_context(subscription.following(state.id))
                            break
                else:
                    return
            assert state is not None
            shared = stack.enter_context(self._join(key, request, SharedContext(context, viewer), start))
            async with aclosing(shared.results_after(state)) as serialized_results:
                async for serialized in serialized_results:
                    if serialized.state is not None:
                        update(serialized.state)
                    yield serialized

    @contextmanager
    def _count_subscriber(self, key: Hashable | None) -> Iterator[bool]:
        """Count a subscriber while the block runs, and yield whether there is another one with the same key."""
        if key is None:
            yield False
            return
        self._subscriber_counts[key] += 1
        try:
            yield self._subscriber_counts[key] > 1
        finally:
            self._subscriber_counts[key] -= 1
            if not self._subscriber_counts[key]:
                del self._subscriber_counts[key]

    @contextmanager
    def _join(
        self, key: Hashable, request: GraphQLRequest, context: SharedContext, start: StartSubscription
    ) -> Iterator[SharedSubscription]:
        """Join the shared subscription while the block runs. The first subscriber starts it, the last one stops it."""
        shared = self._shared.get(key)
        if shared is None or shared.has_ended:
            shared = self._shared[key] = SharedSubscription(
                partial(_start, request._replace(extensions=None), context, start), context.subscription, self._tasks
            )
        shared.subscribers += 1
        try:
            yield shared
        finally:
            shared.subscribers -= 1
            if shared.subscribers == 0:
                if self._shared.get(key) is shared:
                    del self._shared[key]
                shared.stop()


class SharedSubscription:
    """One execution of a subscription, whose newest result is serialized once and delivered to all subscribers."""

    def __init__(
        self, start: Callable[[], Awaitable[Results]], subscription: SubscriptionState, tasks: BackgroundTasks
    ) -> None:
        self.subscribers = 0
        self.has_ended = False
        self._is_complete = False
        self._subscription = subscription
        self._newest: SerializedResult | None = None
        self._number = 0
        self._changed = asyncio.Event()
        self._tasks = tasks
        self._task = tasks.start(self._run(start), name="run a shared subscription")

    async def results_after(self, state: Operation) -> AsyncGenerator[SerializedResult]:
        """Yield each result whose state is newer than ``state`` until the stream ends; to slow readers only the newest.

        Raises:
            StreamInterrupted: the stream has ended before its subscription was complete.
        """
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
                await self._changed.wait()

    def stop(self) -> None:
        """Cancel the execution."""
        self._tasks.cancel(self._task)

    async def _run(self, start: Callable[[], Awaitable[Results]]) -> None:
        try:
            async with aclosing(await start()) as results:
                async for result in results:
                    self._newest = SerializedResult(
                        serialize_result(result), None if result.data is None else self._subscription.latest
                    )
                    self._number += 1
                    self._notify()
                self._is_complete = True
        finally:
            self.has_ended = True
            self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


async def _start(request: GraphQLRequest, context: Context, start: StartSubscription) -> Results:
    results = await start(
        request.query,
        variable_values=request.variables,
        context_value=context,
        operation_name=request.operation_name,
        operation_extensions=request.extensions,
    )
    return results if context.expected_tenant is None else _with_current_tenant(results, context)


async def _with_current_tenant(results: Results, context: Context) -> Results:
    """Yield each result, with the id of the session's tenant if it is not the tenant that the client displays."""
    async with aclosing(results):
        async for result in results:
            if type(result) is ExecutionResult:
                await add_current_tenant(result, context)
            yield result


async def add_current_tenant(result: ExecutionResult, context: Context) -> None:
    """Add ``extensions.currentTenantId`` if the session is in another tenant than the client expects."""
    with suppress(Exception):  # the session cannot be read: a result that needs it has the error
        current = await context.unexpected_tenant_id()
        if current is not None:
            result.extensions = {**(result.extensions or {}), "currentTenantId": current}


def _sharing_key(request: GraphQLRequest, context: Context, viewer: Session | None) -> Hashable | None:
    """Return the key of a subscription: subscriptions with equal keys have equal results.

    It consists of document, variables, operation name, base URL, displayed tenant, and the access of the viewer. None:
    the results may be for this client only, because its token has no session or it has started a login.
    """
    if context.login_tokens or (viewer is None and context.token is not None):
        return None
    access = viewer and access_of(viewer)
    variables, expected = json.dumps(request.variables, sort_keys=True), context.expected_tenant
    return request.query, variables, request.operation_name, context.base_url, expected, access


def serialize_result(result: ExecutionResult) -> str:
    """Return the result of a subscription as the JSON that clients receive, in one line."""
    payload: dict[str, object] = {} if isinstance(result, PreExecutionError) else {"data": result.data}
    if result.errors:
        payload["errors"] = [error.formatted for error in result.errors]
    if result.extensions:
        payload["extensions"] = result.extensions
    return _JSON.encode(payload)

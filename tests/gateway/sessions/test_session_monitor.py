"""The session monitor: which callbacks it calls, which tasks it runs and what it frees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from contracts.auth import ReplacedSession, Role, Session, access_key, session_cache_key
from contracts.callers import Caller
from contracts.errors import ServiceUnavailable, SessionEnded
from gateway.sessions.session_cache import SessionCache
from gateway.sessions.session_monitor import SessionBinding, SessionMonitor
from infrastructure.caching.cache import MemoryCache
from infrastructure.change_notifications import LocalNotifier
from infrastructure.circuit_breaker import CircuitBreaker
from infrastructure.signing.secret_keys import SecretKeys
from infrastructure.signing.service_tokens import ServiceTokenSigner
from infrastructure.tasks import BackgroundTasks
from resolvers.clients.auth import AuthClient
from resolvers.clients.base import ServiceClient
from resolvers.following.subscription_state import SubscriptionState
from resolvers.tokens import token_hash
from tests.gateway.fakes import GLOBEX, GRACE, KEY, TOKEN, FakeServices, session
from tests.gateway.live_gateway import wait_until

SWITCH = "tenant-switch-" + "1" * 32


class MonitorEnvironment:
    """A session monitor and an auth service whose sessions, by token, a test changes.

    ``ended_ids`` contains the ids of the sessions whose end was reported.
    """

    def __init__(self, check_seconds: float) -> None:
        self.sessions = {TOKEN: session()}
        self.is_unavailable = False
        self.ended_ids: list[str] = []
        self.change_notifier = LocalNotifier()
        services = FakeServices({"auth/get_current_session": self._find})
        http = httpx.AsyncClient(transport=services.transport)
        signer = ServiceTokenSigner("auth", SecretKeys(KEY.encode()))
        auth = AuthClient(
            ServiceClient("auth", "http://auth.test", http, signer, CircuitBreaker("auth", failure_threshold=1000))
        )
        cache = MemoryCache()
        self.watch = SessionMonitor(
            SessionCache(cache, auth, max_age_seconds=0), self.change_notifier, check_interval_seconds=check_seconds
        )

    def _find(self, _caller: Caller, body: dict[str, Any]) -> Session:
        if self.is_unavailable:
            raise ServiceUnavailable(service="auth")
        for token, found in self.sessions.items():
            if body["token_hash"] == token_hash(token):
                return found
        raise SessionEnded()

    async def notify(self) -> None:
        """Send the change notification of the session."""
        await self.change_notifier.notify(session_cache_key(token_hash(TOKEN)))

    def record_end(self, ended: Session) -> None:
        """Record the end of a session, as a callback of the monitor."""
        self.ended_ids.append(ended.id)


@pytest.fixture
async def environment() -> AsyncIterator[MonitorEnvironment]:
    """A session monitor that reads sessions again only after notifications: no periodic check is due."""
    environment = MonitorEnvironment(check_seconds=1000)
    async with environment.watch:
        yield environment


def monitor_tasks() -> list[asyncio.Task[Any]]:
    """Return the running tasks that monitor a session."""
    return [task for task in asyncio.all_tasks() if task.get_name() == "watch a session"]


async def test_task_ends_when_the_last_block_that_monitors_the_session_ends(environment: MonitorEnvironment) -> None:
    with environment.watch.watch(TOKEN, session(), environment.record_end):
        with environment.watch.watch(TOKEN, session(), lambda _: None):
            await wait_until(lambda: len(monitor_tasks()) == 1)
            assert environment.watch.cached(TOKEN) is not None
        await asyncio.sleep(0.1)
        assert len(monitor_tasks()) == 1
    await wait_until(lambda: monitor_tasks() == [])
    assert environment.watch.cached(TOKEN) is None
    assert environment.change_notifier._waiting == {}  # noqa: SLF001 - a leak would add two entries per session
    assert environment.ended_ids == []


async def test_task_ends_when_the_session_ends(environment: MonitorEnvironment) -> None:
    with environment.watch.watch(TOKEN, session(), environment.record_end):
        await wait_until(lambda: len(monitor_tasks()) == 1)
        found = environment.sessions.pop(TOKEN)
        await environment.notify()
        await wait_until(lambda: environment.ended_ids == [found.id])
        await wait_until(lambda: monitor_tasks() == [])
        assert environment.watch.cached(TOKEN) is None


async def test_task_ends_when_a_check_finds_that_the_session_has_ended() -> None:
    environment = MonitorEnvironment(check_seconds=0.05)
    async with environment.watch:
        with environment.watch.watch(TOKEN, session(), environment.record_end):
            await wait_until(lambda: len(monitor_tasks()) == 1)
            await asyncio.sleep(0.2)
            assert environment.ended_ids == []
            environment.sessions.clear()
            await wait_until(lambda: environment.ended_ids == [session().id])
            await wait_until(lambda: monitor_tasks() == [])


async def test_calls_a_callback_once_and_only_while_its_block_runs(environment: MonitorEnvironment) -> None:
    unexpected_calls: list[Session] = []
    with environment.watch.watch(TOKEN, session(), environment.record_end):
        with environment.watch.watch(TOKEN, session(), unexpected_calls.append):
            pass
        environment.sessions.clear()
        for _ in range(3):
            await environment.notify()
            await asyncio.sleep(0.05)
    assert environment.ended_ids == [session().id]
    assert unexpected_calls == []


@pytest.mark.parametrize(
    "change",
    [
        {"role": Role.GUEST},
        {"permissions": ("tenant:read",)},
        {"tenant_id": GLOBEX},
        {"user_id": GRACE},
        {"id": "ses_" + "b" * 32},
    ],
    ids=lambda each: next(iter(each)),
)
async def test_session_counts_as_restored_only_if_it_is_unchanged(
    environment: MonitorEnvironment, change: dict[str, Any]
) -> None:
    before = session()
    assert await environment.watch.is_restored(TOKEN, before)
    environment.sessions[TOKEN] = before.model_copy(update=change)
    assert not await environment.watch.is_restored(TOKEN, before)
    environment.sessions[TOKEN] = before
    assert await environment.watch.is_restored(TOKEN, before)
    environment.is_unavailable = True
    assert not await environment.watch.is_restored(TOKEN, before)
    environment.is_unavailable = False
    environment.sessions.clear()
    assert not await environment.watch.is_restored(TOKEN, before)


async def test_calls_only_callbacks_with_an_outdated_session(environment: MonitorEnvironment) -> None:
    """Two requests found the session, before and after its role was changed."""
    changed = session().model_copy(update={"role": Role.GUEST})
    stale: list[Session] = []
    environment.sessions[TOKEN] = changed
    with (
        environment.watch.watch(TOKEN, changed, environment.record_end),
        environment.watch.watch(TOKEN, session(), stale.append),
    ):
        await wait_until(lambda: len(stale) == 1)
        await asyncio.sleep(0.1)
        assert environment.ended_ids == []
        await environment.change_notifier.notify(access_key(changed.user_id, changed.tenant_id))
        await asyncio.sleep(0.1)
        assert environment.ended_ids == []


async def test_reads_the_session_immediately_after_a_change_of_membership(environment: MonitorEnvironment) -> None:
    with environment.watch.watch(TOKEN, session(), environment.record_end):
        await wait_until(lambda: len(monitor_tasks()) == 1)
        await asyncio.sleep(0.1)
        environment.sessions[TOKEN] = session().model_copy(update={"role": Role.MEMBER})
        await environment.change_notifier.notify(access_key(session().user_id, session().tenant_id))
        await wait_until(lambda: environment.ended_ids == [session().id], 2)


async def test_checks_each_of_more_sessions_than_fit_into_one_call() -> None:
    environment = MonitorEnvironment(check_seconds=0.1)
    tokens = [f"token-{number}" for number in range(501)]
    environment.sessions = {token: session(f"ses_{number:032x}") for number, token in enumerate(tokens)}
    async with environment.watch, AsyncExitStack() as stack:
        for token in tokens:
            stack.enter_context(environment.watch.watch(token, environment.sessions[token], environment.record_end))
        await asyncio.sleep(1)
        ended = [environment.sessions.pop(token).id for token in (tokens[0], tokens[-1])]
        await wait_until(lambda: sorted(environment.ended_ids) == sorted(ended))


async def test_closing_the_monitor_ends_all_tasks() -> None:
    environment = MonitorEnvironment(check_seconds=1000)
    async with environment.watch, AsyncExitStack() as stack:
        for _ in range(3):
            stack.enter_context(environment.watch.watch(TOKEN, session(), environment.record_end))
        await wait_until(lambda: len(monitor_tasks()) == 1)
        await environment.watch.__aexit__(None, None, None)
        assert monitor_tasks() == []


class BoundStream:
    """A stream that follows the tenant switch which ends its session; ``ended`` counts how often it was ended."""

    def __init__(self, environment: MonitorEnvironment) -> None:
        self.environment = environment
        self.subscription = SubscriptionState()
        self.ended = 0
        self.monitor_tasks = BackgroundTasks()
        context: Any = SimpleNamespace(subscription=self.subscription, previous_session=self._before)
        self.binding = SessionBinding(environment.watch, context, self._end, self._start)

    async def lose_session(self) -> None:
        """Bind the stream to its session and end that session."""
        self.binding.bind(TOKEN, session())
        await wait_until(lambda: len(monitor_tasks()) == 1)
        self.environment.sessions.clear()
        await self.environment.notify()
        await wait_until(lambda: self.binding.has_ended)
        await asyncio.sleep(0)  # the task that ends the stream has started

    async def _before(self) -> ReplacedSession:
        return ReplacedSession(session=session(), ended_by_step=f"{SWITCH}:replace_session")

    async def _end(self) -> None:
        self.ended += 1

    def _start(self, work: Coroutine[object, object, None]) -> None:
        self.monitor_tasks.start(work, name="end a stream")


async def test_ends_a_stream_once_after_the_final_state_of_the_switch(environment: MonitorEnvironment) -> None:
    bound_stream = BoundStream(environment)
    with bound_stream.subscription.following(SWITCH):
        await bound_stream.lose_session()
        await asyncio.sleep(0.3)
        assert bound_stream.ended == 0
    await wait_until(lambda: bound_stream.ended == 1)
    bound_stream.binding.close()
    await asyncio.sleep(0.1)
    assert (bound_stream.ended, monitor_tasks()) == (1, [])


async def test_stream_continues_with_a_restored_session_and_ends_with_it_later(environment: MonitorEnvironment) -> None:
    bound_stream = BoundStream(environment)
    before = environment.sessions[TOKEN]
    with bound_stream.subscription.following(SWITCH):
        await bound_stream.lose_session()
        environment.sessions[TOKEN] = before
    await wait_until(lambda: not bound_stream.binding.has_ended)
    await wait_until(lambda: len(monitor_tasks()) == 1)
    assert bound_stream.ended == 0
    await asyncio.sleep(0.1)
    environment.sessions.clear()
    await environment.notify()
    await wait_until(lambda: bound_stream.ended == 1)
    bound_stream.binding.close()


async def test_completed_stream_is_neither_ended_nor_bound_again(environment: MonitorEnvironment) -> None:
    bound_stream = BoundStream(environment)
    with bound_stream.subscription.following(SWITCH):
        await bound_stream.lose_session()
        bound_stream.binding.close()
    await wait_until(lambda: len(bound_stream.monitor_tasks) == 0)
    assert bound_stream.ended == 0
    environment.sessions[TOKEN] = session()
    bound_stream.binding.bind(TOKEN, session())
    await asyncio.sleep(0.05)
    assert monitor_tasks() == []
    assert environment.watch.cached(TOKEN) is None


async def test_binding_to_another_session_releases_the_previous_one(environment: MonitorEnvironment) -> None:
    bound_stream = BoundStream(environment)
    environment.sessions["newer"] = session("ses_" + "b" * 32)
    bound_stream.binding.bind(TOKEN, session())
    bound_stream.binding.bind("newer", environment.sessions["newer"])
    await wait_until(lambda: environment.watch.cached(TOKEN) is None and len(monitor_tasks()) == 1)
    del environment.sessions[TOKEN]
    await environment.notify()
    await asyncio.sleep(0.1)
    assert (bound_stream.ended, bound_stream.binding.has_ended) == (0, False)
    bound_stream.binding.close()
    await wait_until(lambda: monitor_tasks() == [])

"""The session monitor alone: which callbacks it calls, what it holds, and what remains after it."""

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
from tests.gateway.fakes import GLOBEX, GRACE, KEY, TOKEN, Services, session
from tests.gateway.live_gateway import until

SWITCH = "tenant-switch-" + "1" * 32


class World:
    """A watch before an auth service whose sessions, by token, a test changes. ``over``: the ids of ended sessions."""

    def __init__(self, check_seconds: float) -> None:
        self.sessions = {TOKEN: session()}
        self.is_away = False
        self.over: list[str] = []
        self.change_notifier = LocalNotifier()
        services = Services({"auth/get_current_session": self._find})
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
        if self.is_away:
            raise ServiceUnavailable(service="auth")
        for token, found in self.sessions.items():
            if body["token_hash"] == token_hash(token):
                return found
        raise SessionEnded()

    async def notify(self) -> None:
        """Send the change notification of the session."""
        await self.change_notifier.notify(session_cache_key(token_hash(TOKEN)))

    def note(self, ended: Session) -> None:
        self.over.append(ended.id)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """No check is due: only notifications have a session read again."""
    world = World(check_seconds=1000)
    async with world.watch:
        yield world


def tasks() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "watch a session"]


async def test_the_task_of_a_session_ends_with_the_last_that_stays_and_not_before(world: World) -> None:
    with world.watch.watch(TOKEN, session(), world.note):
        with world.watch.watch(TOKEN, session(), lambda _: None):
            await until(lambda: len(tasks()) == 1)
            assert world.watch.cached(TOKEN) is not None
        await asyncio.sleep(0.1)
        assert len(tasks()) == 1
    await until(lambda: tasks() == [])
    assert world.watch.cached(TOKEN) is None
    assert world.change_notifier._waiting == {}  # noqa: SLF001 - it would grow by two for each session
    assert world.over == []


async def test_the_task_of_a_session_that_has_ended_ends(world: World) -> None:
    with world.watch.watch(TOKEN, session(), world.note):
        await until(lambda: len(tasks()) == 1)
        found = world.sessions.pop(TOKEN)
        await world.notify()
        await until(lambda: world.over == [found.id])
        await until(lambda: tasks() == [])
        assert world.watch.cached(TOKEN) is None


async def test_the_task_of_a_session_whose_end_a_check_finds_ends() -> None:
    world = World(check_seconds=0.05)
    async with world.watch:
        with world.watch.watch(TOKEN, session(), world.note):
            await until(lambda: len(tasks()) == 1)
            await asyncio.sleep(0.2)
            assert world.over == []
            world.sessions.clear()
            await until(lambda: world.over == [session().id])
            await until(lambda: tasks() == [])


async def test_a_callback_is_called_once_while_its_block_runs_and_not_after_that(world: World) -> None:
    left: list[Session] = []
    with world.watch.watch(TOKEN, session(), world.note):
        with world.watch.watch(TOKEN, session(), left.append):
            pass
        world.sessions.clear()
        for _ in range(3):
            await world.notify()
            await asyncio.sleep(0.05)
    assert world.over == [session().id]
    assert left == []


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
async def test_a_session_is_back_only_as_what_it_was(world: World, change: dict[str, Any]) -> None:
    before = session()
    assert await world.watch.is_restored(TOKEN, before)
    world.sessions[TOKEN] = before.model_copy(update=change)
    assert not await world.watch.is_restored(TOKEN, before)
    world.sessions[TOKEN] = before
    assert await world.watch.is_restored(TOKEN, before)
    world.is_away = True
    assert not await world.watch.is_restored(TOKEN, before)
    world.is_away = False
    world.sessions.clear()
    assert not await world.watch.is_restored(TOKEN, before)


async def test_only_the_callback_with_an_outdated_session_is_called(world: World) -> None:
    """It was found by two requests, before and after its role was changed."""
    changed = session().model_copy(update={"role": Role.GUEST})
    stale: list[Session] = []
    world.sessions[TOKEN] = changed
    with world.watch.watch(TOKEN, changed, world.note), world.watch.watch(TOKEN, session(), stale.append):
        await until(lambda: len(stale) == 1)
        await asyncio.sleep(0.1)
        assert world.over == []
        await world.change_notifier.notify(access_key(changed.user_id, changed.tenant_id))
        await asyncio.sleep(0.1)
        assert world.over == []


async def test_a_change_of_membership_has_the_session_read_at_once(world: World) -> None:
    with world.watch.watch(TOKEN, session(), world.note):
        await until(lambda: len(tasks()) == 1)
        await asyncio.sleep(0.1)
        world.sessions[TOKEN] = session().model_copy(update={"role": Role.MEMBER})
        await world.change_notifier.notify(access_key(session().user_id, session().tenant_id))
        await until(lambda: world.over == [session().id], 2)


async def test_of_more_sessions_than_one_call_takes_each_is_checked() -> None:
    world = World(check_seconds=0.1)
    tokens = [f"token-{number}" for number in range(501)]
    world.sessions = {token: session(f"ses_{number:032x}") for number, token in enumerate(tokens)}
    async with world.watch, AsyncExitStack() as stack:
        for token in tokens:
            stack.enter_context(world.watch.watch(token, world.sessions[token], world.note))
        await asyncio.sleep(1)
        ended = [world.sessions.pop(token).id for token in (tokens[0], tokens[-1])]
        await until(lambda: sorted(world.over) == sorted(ended))


async def test_closing_the_watch_ends_every_task() -> None:
    world = World(check_seconds=1000)
    async with world.watch, AsyncExitStack() as stack:
        for _ in range(3):
            stack.enter_context(world.watch.watch(TOKEN, session(), world.note))
        await until(lambda: len(tasks()) == 1)
        await world.watch.__aexit__(None, None, None)
        assert tasks() == []


class Bound:
    """A stream of its own that follows a switch, which has ended its session. ``ended`` counts its ends."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.following = SubscriptionState()
        self.ended = 0
        self.tasks = BackgroundTasks()
        context: Any = SimpleNamespace(following=self.following, previous_session=self._before)
        self.binding = SessionBinding(world.watch, context, self._end, self._start)

    async def lose_session(self) -> None:
        """Bind the stream to its session, and end that session."""
        self.binding.bind(TOKEN, session())
        await until(lambda: len(tasks()) == 1)
        self.world.sessions.clear()
        await self.world.notify()
        await until(lambda: self.binding.has_ended)
        await asyncio.sleep(0)  # the task that ends the stream has begun

    async def _before(self) -> ReplacedSession:
        return ReplacedSession(session=session(), ended_by_step=f"{SWITCH}:replace_session")

    async def _end(self) -> None:
        self.ended += 1

    def _start(self, work: Coroutine[object, object, None]) -> None:
        self.tasks.start(work, name="end a stream")


async def test_a_binding_ends_its_stream_once_and_after_the_last_word_of_the_switch(world: World) -> None:
    bound = Bound(world)
    with bound.following.operation(SWITCH):
        await bound.lose_session()
        await asyncio.sleep(0.3)
        assert bound.ended == 0
    await until(lambda: bound.ended == 1)
    bound.binding.close()
    await asyncio.sleep(0.1)
    assert (bound.ended, tasks()) == (1, [])


async def test_a_binding_whose_session_is_back_goes_on_and_ends_with_it_another_time(world: World) -> None:
    bound = Bound(world)
    before = world.sessions[TOKEN]
    with bound.following.operation(SWITCH):
        await bound.lose_session()
        world.sessions[TOKEN] = before
    await until(lambda: not bound.binding.has_ended)
    await until(lambda: len(tasks()) == 1)
    assert bound.ended == 0
    await asyncio.sleep(0.1)
    world.sessions.clear()
    await world.notify()
    await until(lambda: bound.ended == 1)
    bound.binding.close()


async def test_a_stream_that_has_ended_by_itself_is_neither_ended_nor_bound_again(world: World) -> None:
    bound = Bound(world)
    with bound.following.operation(SWITCH):
        await bound.lose_session()
        bound.binding.close()
    await until(lambda: len(bound.tasks) == 0)
    assert bound.ended == 0
    world.sessions[TOKEN] = session()
    bound.binding.bind(TOKEN, session())
    await asyncio.sleep(0.05)
    assert tasks() == []
    assert world.watch.cached(TOKEN) is None


async def test_a_binding_to_another_session_lets_the_one_before_go(world: World) -> None:
    bound = Bound(world)
    world.sessions["newer"] = session("ses_" + "b" * 32)
    bound.binding.bind(TOKEN, session())
    bound.binding.bind("newer", world.sessions["newer"])
    await until(lambda: world.watch.cached(TOKEN) is None and len(tasks()) == 1)
    del world.sessions[TOKEN]
    await world.notify()
    await asyncio.sleep(0.1)
    assert (bound.ended, bound.binding.has_ended) == (0, False)
    bound.binding.close()
    await until(lambda: tasks() == [])

"""Handovers: a new session replaces an old one, and the undo restores the old one unless it was revoked."""

import asyncio
from datetime import timedelta

import pytest

from activities.auth import models
from activities.auth.sessions import SessionsService
from activities.tenants.models import Membership
from activities.tenants.service import TenantsService
from contracts.auth import Role, Session, SessionLookup, SessionReplacement, SignIn
from contracts.errors import SessionEnded, StepAlreadyUndone
from infrastructure.change_notifications import LocalNotifier
from tests.activities.auth.session_fixtures import ACME, ADA, GLOBEX, hash_of, new_session, opens, sign_in
from tests.activities.conftest import Clock, RecordingRevocationPublisher, join

IDLE, SEEN_EVERY = timedelta(hours=2), timedelta(minutes=5)


async def switch(service: SessionsService, old: Session) -> Session:
    """As the workflow does it: from ``old`` to a session with the token "new"."""
    await join(ADA, GLOBEX, Role.ADMIN)
    new = await service.create_session(new_session("new", tenant_id=GLOBEX).model_copy(update={"replaces": old.id}))
    await service.replace_session(SessionReplacement(key="switch:end", session_id=new.id, old_session_id=old.id))
    return new


async def test_replacement_activates_the_new_session_and_ends_the_old_one(
    sessions_service: SessionsService, revocations: RecordingRevocationPublisher
) -> None:
    old = await sign_in(sessions_service, "old")

    new = await switch(sessions_service, old)

    assert await opens(sessions_service, "new")
    assert not await opens(sessions_service, "old")
    assert [session.id for session in await sessions_service.list_sessions(ADA)] == [new.id]
    assert revocations.published == {hash_of("old")}


async def test_replacing_sessions_do_not_outlive_the_first_session(
    sessions_service: SessionsService, clock: Clock
) -> None:
    first = last = await sign_in(sessions_service, "0")
    await join(ADA, GLOBEX, Role.ADMIN)
    for number in range(1, 4):
        clock.advance(timedelta(hours=1))
        tenant = GLOBEX if number % 2 else ACME
        new = new_session(str(number), tenant_id=tenant).model_copy(update={"replaces": last.id})
        session = await sessions_service.create_session(new)
        assert session.expires_at == first.expires_at
        await sessions_service.replace_session(
            SessionReplacement(key=f"{number}:end", session_id=session.id, old_session_id=last.id)
        )
        last = session
    clock.advance(timedelta(hours=1, minutes=50))
    assert await opens(sessions_service, "3")
    clock.advance(timedelta(hours=20))
    assert not await opens(sessions_service, "3")


async def test_replaced_session_is_readable_until_its_expiry(sessions_service: SessionsService, clock: Clock) -> None:
    await switch(sessions_service, await sign_in(sessions_service, "old"))
    lookup = SessionLookup(token_hash=hash_of("old"))

    clock.advance(timedelta(hours=24) - timedelta(seconds=1))
    await sessions_service.get_replaced_session(lookup)
    clock.advance(timedelta(seconds=1))
    with pytest.raises(SessionEnded):
        await sessions_service.get_replaced_session(lookup)


async def test_idle_session_cannot_be_replaced(sessions_service: SessionsService, clock: Clock) -> None:
    old = await sign_in(sessions_service, "old")
    clock.advance(IDLE + SEEN_EVERY)

    with pytest.raises(SessionEnded):
        await switch(sessions_service, old)

    assert not await opens(sessions_service, "new")
    assert await sessions_service.list_sessions(ADA) == []


async def test_session_is_activated_by_one_step_only(sessions_service: SessionsService) -> None:
    session = await sign_in(sessions_service, "token")

    with pytest.raises(SessionEnded):
        await sessions_service.record_sign_in(SignIn(key="another sign-in", session_id=session.id))
    with pytest.raises(SessionEnded):
        await sessions_service.replace_session(SessionReplacement(key="switch", session_id=session.id))
    assert await opens(sessions_service, "token")


async def test_replaced_session_is_readable_by_members_only(
    sessions_service: SessionsService,
) -> None:
    old = await sign_in(sessions_service, "old")
    await switch(sessions_service, old)
    lookup = SessionLookup(token_hash=hash_of("old"))
    assert (await sessions_service.get_replaced_session(lookup)).session == old
    await Membership.filter(user_id=ADA, tenant_id=ACME).delete()
    with pytest.raises(SessionEnded):
        await sessions_service.get_replaced_session(lookup)


async def test_repeated_replacement_publishes_the_revocation_again(
    sessions_service: SessionsService, revocations: RecordingRevocationPublisher
) -> None:
    old = await sign_in(sessions_service, "old")
    await switch(sessions_service, old)
    revocations.published.clear()

    await switch(sessions_service, old)

    assert revocations.published == {hash_of("old")}
    assert await opens(sessions_service, "new")


async def test_undone_replacement_restores_both_sessions(
    sessions_service: SessionsService, revocations: RecordingRevocationPublisher
) -> None:
    old = await sign_in(sessions_service, "old")
    before = await models.Session.all().values()
    await switch(sessions_service, old)

    for _ in range(2):
        await sessions_service.undo_replace_session("switch:end")
        await sessions_service.undo_create_session("new:create_session")

    assert await opens(sessions_service, "old")
    assert not await opens(sessions_service, "new")
    assert await models.Session.all().values() == before
    assert revocations.published == {hash_of("new")}


async def test_undo_before_the_replacement_prevents_it(sessions_service: SessionsService) -> None:
    old = await sign_in(sessions_service, "old")
    await sessions_service.undo_replace_session("switch:end")

    with pytest.raises(StepAlreadyUndone):
        await switch(sessions_service, old)

    assert await opens(sessions_service, "old")
    assert not await opens(sessions_service, "new")


async def test_replacement_of_a_revoked_session_fails(
    sessions_service: SessionsService,
) -> None:
    old = await sign_in(sessions_service, "old")
    await sessions_service.end_session(ADA, old.id)

    with pytest.raises(SessionEnded):
        await switch(sessions_service, old)

    assert not await opens(sessions_service, "new")


async def test_undo_restores_no_session_that_was_revoked_in_between(
    sessions_service: SessionsService,
) -> None:
    old = await sign_in(sessions_service, "old")
    await switch(sessions_service, old)
    await sessions_service.end_session(ADA, old.id)

    await sessions_service.undo_replace_session("switch:end")

    assert not await opens(sessions_service, "old")


async def test_undo_restores_nothing_if_the_new_session_was_revoked(
    sessions_service: SessionsService, revocations: RecordingRevocationPublisher
) -> None:
    old = await sign_in(sessions_service, "old")
    new = await switch(sessions_service, old)
    await sessions_service.end_session(ADA, new.id)

    await sessions_service.undo_replace_session("switch:end")

    assert not await opens(sessions_service, "old")
    assert not await opens(sessions_service, "new")
    assert revocations.published == {hash_of("old"), hash_of("new")}


async def test_concurrent_replacement_and_revocation_never_lose_the_revocation(
    postgres_database: None, revocations: RecordingRevocationPublisher, clock: Clock
) -> None:
    sessions_service = SessionsService(revocations, clock, memberships=TenantsService(LocalNotifier()))
    for n in range(10):
        old = await sign_in(sessions_service, f"old-{n}")
        new = await sessions_service.create_session(new_session(f"new-{n}"))
        handover = SessionReplacement(key=f"switch-{n}", session_id=new.id, old_session_id=old.id)

        outcome, _ = await asyncio.gather(
            sessions_service.replace_session(handover),
            sessions_service.end_session(ADA, old.id),
            return_exceptions=True,
        )

        await sessions_service.undo_replace_session(f"switch-{n}")
        assert outcome is None or isinstance(outcome, SessionEnded)
        assert not await opens(sessions_service, f"old-{n}")


async def test_replacement_without_an_old_session_activates_the_new_one(sessions_service: SessionsService) -> None:
    await join(ADA, ACME, Role.ADMIN)
    session = await sessions_service.create_session(new_session("token"))

    await sessions_service.replace_session(SessionReplacement(key="login:activate", session_id=session.id))

    assert await opens(sessions_service, "token")


async def test_only_replaced_sessions_are_readable_by_their_old_token(
    sessions_service: SessionsService, clock: Clock
) -> None:
    old = await sign_in(sessions_service, "old")
    new = await sessions_service.create_session(new_session("new", tenant_id=GLOBEX))
    await sign_in(sessions_service, "revoked")
    lookup = SessionLookup(token_hash=hash_of("old"))
    with pytest.raises(SessionEnded):
        await sessions_service.get_replaced_session(lookup)

    await sessions_service.replace_session(
        SessionReplacement(key="switch:end", session_id=new.id, old_session_id=old.id)
    )
    found = await sessions_service.get_replaced_session(lookup)
    assert (found.session.id, found.ended_by_step) == (old.id, "switch:end")

    for token in ("new", "revoked", "unknown"):
        with pytest.raises(SessionEnded):
            await sessions_service.get_replaced_session(SessionLookup(token_hash=hash_of(token)))
    await sessions_service.end_session(ADA, old.id)
    with pytest.raises(SessionEnded):
        await sessions_service.get_replaced_session(lookup)

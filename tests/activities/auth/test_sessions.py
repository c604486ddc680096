"""Sessions: what one permits, when it ends, and that each step of a login can be repeated and undone."""

import asyncio
from datetime import timedelta

import pytest

from activities.auth import models
from activities.auth.sessions import SessionsService
from activities.tenants.models import Membership
from activities.tenants.service import TenantsService
from contracts.auth import PERMISSIONS, PermissionCheck, Role, SessionLookup, SessionLookups, SessionReplacement, SignIn
from contracts.base import new_id
from contracts.errors import PermissionDenied, SessionEnded, SessionNotFound, StepAlreadyUndone
from infrastructure.change_notifications import LocalNotifier
from tests.activities.auth.session_fixtures import ACME, ADA, GLOBEX, GRACE, hash_of, new_session, opens, sign_in
from tests.activities.conftest import Clock, RecordingRevocationPublisher, join

IDLE, SEEN_EVERY = timedelta(hours=2), timedelta(minutes=5)


async def test_session_is_invalid_before_the_sign_in_is_recorded(sessions_service: SessionsService) -> None:
    session = await sessions_service.create_session(new_session("token"))

    assert not await opens(sessions_service, "token")
    assert await sessions_service.list_sessions(ADA) == []
    with pytest.raises(SessionEnded):
        await sessions_service.get_session(session.id)


async def test_session_has_its_roles_permissions_for_24_hours(sessions_service: SessionsService, clock: Clock) -> None:
    session = await sign_in(sessions_service, "token")

    assert await sessions_service.get_current_session(SessionLookup(token_hash=hash_of("token"))) == session
    assert await sessions_service.get_session(session.id) == session
    assert session.permissions == tuple(sorted(PERMISSIONS[Role.ADMIN]))
    assert session.expires_at - session.created_at == timedelta(hours=24)

    clock.advance(timedelta(hours=24))
    assert not await opens(sessions_service, "token")
    with pytest.raises(SessionEnded):
        await sessions_service.get_session(session.id)


@pytest.mark.parametrize("token_hash", ["", "\0" * 64, "ab", "é" * 64, "0" * 64])
async def test_unknown_token_has_no_session(sessions_service: SessionsService, token_hash: str) -> None:
    with pytest.raises(SessionEnded):
        await sessions_service.get_current_session(SessionLookup(token_hash=token_hash))


async def test_repeated_steps_return_the_first_result(sessions_service: SessionsService) -> None:
    first = await sign_in(sessions_service, "token")
    again = await sign_in(sessions_service, "token")

    assert first == again
    assert await models.Session.all().count() == 1
    assert await models.SignIn.all().count() == 1


async def test_concurrent_attempts_create_one_session(
    postgres_database: None, revocations: RecordingRevocationPublisher, clock: Clock
) -> None:
    sessions_service = SessionsService(revocations, clock, memberships=TenantsService(LocalNotifier()))

    sessions = await asyncio.gather(*(sign_in(sessions_service, "token") for _ in range(20)))

    assert len({session.id for session in sessions}) == 1
    assert await models.SignIn.all().count() == 1


async def test_undoing_a_login_removes_its_session_and_sign_in(sessions_service: SessionsService) -> None:
    await sign_in(sessions_service, "token")

    for _ in range(2):
        await sessions_service.undo_record_sign_in("token:record_sign_in")
        await sessions_service.undo_create_session("token:create_session")

    assert not await opens(sessions_service, "token")
    assert await models.Session.all().count() == await models.SignIn.all().count() == 0


async def test_undos_before_their_steps_prevent_them(sessions_service: SessionsService) -> None:
    await sessions_service.undo_record_sign_in("token:record_sign_in")
    session = await sessions_service.create_session(new_session("token"))
    with pytest.raises(StepAlreadyUndone):
        await sessions_service.record_sign_in(SignIn(key="token:record_sign_in", session_id=session.id))
    assert not await opens(sessions_service, "token")

    await sessions_service.undo_create_session("other:create_session")
    with pytest.raises(StepAlreadyUndone):
        await sessions_service.create_session(new_session("other"))


async def test_undoing_a_sign_in_publishes_the_revocation(
    sessions_service: SessionsService, revocations: RecordingRevocationPublisher
) -> None:
    await sign_in(sessions_service, "token")

    await sessions_service.undo_record_sign_in("token:record_sign_in")

    assert hash_of("token") in revocations.published


async def test_expired_session_is_not_activated(sessions_service: SessionsService, clock: Clock) -> None:
    session = await sessions_service.create_session(new_session("token"))
    clock.advance(timedelta(hours=24))

    with pytest.raises(SessionEnded):
        await sessions_service.record_sign_in(SignIn(key="sign-in", session_id=session.id))
    with pytest.raises(SessionEnded):
        await sessions_service.replace_session(SessionReplacement(key="switch", session_id=session.id))
    assert not (await models.Session.get(id=session.id)).is_active


async def test_undoing_the_creation_publishes_the_revocation(
    sessions_service: SessionsService, revocations: RecordingRevocationPublisher
) -> None:
    await sign_in(sessions_service, "token")

    await sessions_service.undo_create_session("token:create_session")

    assert revocations.published == {hash_of("token")}
    assert not await opens(sessions_service, "token")


async def test_list_contains_the_newest_100_sessions(sessions_service: SessionsService, clock: Clock) -> None:
    oldest = await sign_in(sessions_service, "oldest")
    clock.advance(timedelta(minutes=1))
    await models.Session.bulk_create(
        [
            models.Session(
                id=new_id("ses"),
                user_id=ADA,
                tenant_id=ACME,
                role=Role.ADMIN,
                token_hash=hash_of(str(number)),
                is_active=True,
                created_at=clock.now,
                expires_at=clock.now + timedelta(hours=24),
            )
            for number in range(100)
        ]
    )

    listed = await sessions_service.list_sessions(ADA)

    assert len(listed) == 100
    assert oldest.id not in {session.id for session in listed}


async def test_session_cannot_replace_an_unknown_session(sessions_service: SessionsService) -> None:
    with pytest.raises(SessionEnded):
        await sessions_service.create_session(new_session("new").model_copy(update={"replaces": new_id("ses")}))


async def test_current_membership_determines_permissions(sessions_service: SessionsService) -> None:
    session = await sign_in(sessions_service, "token", role=Role.ADMIN)
    check = PermissionCheck(session_id=session.id, permissions=("users:onboard",))
    lookup = SessionLookup(token_hash=hash_of("token"))
    await sessions_service.check_permissions(check)

    await join(ADA, ACME, Role.GUEST)
    for found in (
        await sessions_service.get_current_session(lookup),
        await sessions_service.get_session(session.id),
        *(await sessions_service.list_sessions(ADA)),
        *(
            each.session
            for each in await sessions_service.get_current_sessions(SessionLookups(token_hashes=(hash_of("token"),)))
        ),
    ):
        assert (found.role, found.permissions) == (Role.GUEST, tuple(sorted(PERMISSIONS[Role.GUEST])))
    with pytest.raises(PermissionDenied):
        await sessions_service.check_permissions(check)

    await Membership.filter(user_id=ADA).delete()
    assert not await opens(sessions_service, "token")
    assert await sessions_service.get_current_sessions(SessionLookups(token_hashes=(hash_of("token"),))) == []
    assert await sessions_service.list_sessions(ADA) == []
    with pytest.raises(SessionEnded):
        await sessions_service.get_session(session.id)
    with pytest.raises(SessionEnded):
        await sessions_service.check_permissions(check)


async def test_list_contains_only_own_sessions_newest_first(sessions_service: SessionsService, clock: Clock) -> None:
    first = await sign_in(sessions_service, "first")
    clock.advance(timedelta(minutes=1))
    second = await sign_in(sessions_service, "second")
    await sign_in(sessions_service, "hers", user_id=GRACE)

    assert await sessions_service.list_sessions(ADA) == [second, first]


async def test_ended_session_is_invalid_and_its_revocation_published(
    sessions_service: SessionsService, revocations: RecordingRevocationPublisher
) -> None:
    session = await sign_in(sessions_service, "token")

    for _ in range(2):
        await sessions_service.end_session(ADA, session.id)

    assert not await opens(sessions_service, "token")
    assert await sessions_service.list_sessions(ADA) == []
    assert revocations.published == {hash_of("token")}


@pytest.mark.parametrize("session_id", ["ses_" + "f" * 32, "", "\0", "usr_" + "f" * 32, "x" * 5000])
async def test_foreign_and_unknown_sessions_raise_the_same_error(
    sessions_service: SessionsService, session_id: str
) -> None:
    hers = await sign_in(sessions_service, "hers", user_id=GRACE)

    refusals = []
    for each in (hers.id, session_id):
        with pytest.raises(SessionNotFound) as refused:
            await sessions_service.end_session(ADA, each)
        refusals.append((type(refused.value), refused.value.message))

    assert refusals[0] == refusals[1]
    assert await opens(sessions_service, "hers")
    with pytest.raises(SessionEnded):
        await sessions_service.get_session(session_id)


async def test_permissions_are_those_of_the_role(sessions_service: SessionsService) -> None:
    session = await sign_in(sessions_service, "token", role=Role.MEMBER)

    await sessions_service.check_permissions(
        PermissionCheck(session_id=session.id, permissions=("files:write", "files:read"))
    )
    with pytest.raises(PermissionDenied):
        await sessions_service.check_permissions(
            PermissionCheck(session_id=session.id, permissions=("files:write", "users:onboard"))
        )
    with pytest.raises(SessionEnded):
        await sessions_service.check_permissions(PermissionCheck(session_id=session.id, permissions=()), user_id=GRACE)
    with pytest.raises(SessionEnded):
        await sessions_service.check_permissions(PermissionCheck(session_id=new_id("ses"), permissions=()))


async def test_permission_check_can_require_user_and_tenant(
    sessions_service: SessionsService,
) -> None:
    session = await sign_in(sessions_service, "token")
    check = PermissionCheck(
        session_id=session.id, permissions=("users:onboard",), user_id=session.user_id, tenant_id=session.tenant_id
    )

    assert await sessions_service.check_permissions(check) == session
    with pytest.raises(SessionEnded):
        await sessions_service.check_permissions(check.model_copy(update={"user_id": GRACE}))
    with pytest.raises(PermissionDenied):
        await sessions_service.check_permissions(check.model_copy(update={"tenant_id": GLOBEX}))


async def test_token_is_not_stored_in_the_database(sessions_service: SessionsService) -> None:
    await sign_in(sessions_service, "the-token-itself")

    stored = [*await models.Session.all().values(), *await models.AuthIdempotencyRecord.all().values()]

    assert "the-token-itself:create_session" in str(stored)
    assert str(stored).count("the-token-itself") == 2  # the keys of the steps alone


async def test_session_is_invalid_after_two_idle_hours(sessions_service: SessionsService, clock: Clock) -> None:
    await sign_in(sessions_service, "token")
    for _ in range(5):
        clock.advance(IDLE)
        assert await opens(sessions_service, "token")

    clock.advance(IDLE + SEEN_EVERY)

    assert not await opens(sessions_service, "token")
    assert await sessions_service.list_sessions(ADA) == []


async def test_use_does_not_extend_a_session_beyond_24_hours(sessions_service: SessionsService, clock: Clock) -> None:
    await sign_in(sessions_service, "token")
    for _ in range(23):
        clock.advance(timedelta(hours=1))
        assert await opens(sessions_service, "token")

    clock.advance(timedelta(hours=1))

    assert not await opens(sessions_service, "token")


async def test_use_is_recorded_at_most_every_five_minutes(sessions_service: SessionsService, clock: Clock) -> None:
    session = await sign_in(sessions_service, "token")
    signed_in_at = clock.now

    clock.advance(SEEN_EVERY / 2)
    assert await opens(sessions_service, "token")
    assert (await models.Session.get(id=session.id)).last_seen_at == signed_in_at

    clock.advance(SEEN_EVERY / 2)
    assert await opens(sessions_service, "token")
    assert (await models.Session.get(id=session.id)).last_seen_at == clock.now

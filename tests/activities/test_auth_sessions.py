"""Sessions: what opens something, when it ends, and that each step of its making can be tried and undone at will."""

import asyncio
import hashlib
from datetime import timedelta

import pytest

from activities.auth import models
from activities.auth.service import AuthService
from activities.tenants.models import Membership
from activities.tenants.service import TenantsService
from contracts.auth import (
    PERMISSIONS,
    NewSession,
    PermissionCheck,
    Role,
    Session,
    SessionHandover,
    SessionLookup,
    SessionLookups,
    SignIn,
)
from contracts.base import new_id
from contracts.errors import EffectUndone, PermissionDenied, SessionEnded, SessionNotFound
from infrastructure.change_notifications import LocalWakeups
from infrastructure.passwords import Passwords
from tests.activities.conftest import Clock, PostedRevocations, join

IDLE, SEEN_EVERY = timedelta(hours=2), timedelta(minutes=5)
ADA, GRACE = new_id("usr"), new_id("usr")
ACME, GLOBEX = new_id("ten"), new_id("ten")


@pytest.fixture
def service(opened: None, passwords: Passwords, revocations: PostedRevocations, clock: Clock) -> AuthService:
    return AuthService(passwords, revocations, clock, memberships=TenantsService(LocalWakeups()))


def hash_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def new_session(token: str, *, user_id: str = ADA, tenant_id: str = ACME, role: Role = Role.ADMIN) -> NewSession:
    return NewSession(
        key=f"{token}:create_session", user_id=user_id, tenant_id=tenant_id, role=role, token_hash=hash_of(token)
    )


async def sign_in(service: AuthService, token: str, *, user_id: str = ADA, role: Role = Role.ADMIN) -> Session:
    await join(user_id, ACME, role)
    session = await service.create_session(new_session(token, user_id=user_id, role=role))
    await service.record_sign_in(SignIn(key=f"{token}:record_sign_in", session_id=session.id))
    return session


async def opens(service: AuthService, token: str) -> bool:
    try:
        await service.get_current_session(SessionLookup(token_hash=hash_of(token)))
    except SessionEnded:
        return False
    return True


async def test_a_session_opens_nothing_before_the_sign_in_is_recorded(service: AuthService) -> None:
    session = await service.create_session(new_session("token"))

    assert not await opens(service, "token")
    assert await service.list_sessions(ADA) == []
    with pytest.raises(SessionEnded):
        await service.get_session(session.id)


async def test_a_session_opens_what_its_role_may_for_24_hours(service: AuthService, clock: Clock) -> None:
    session = await sign_in(service, "token")

    assert await service.get_current_session(SessionLookup(token_hash=hash_of("token"))) == session
    assert await service.get_session(session.id) == session
    assert session.permissions == tuple(sorted(PERMISSIONS[Role.ADMIN]))
    assert session.expires_at - session.created_at == timedelta(hours=24)

    clock.pass_by(timedelta(hours=24))
    assert not await opens(service, "token")
    with pytest.raises(SessionEnded):
        await service.get_session(session.id)


@pytest.mark.parametrize("token_hash", ["", "\0" * 64, "ab", "é" * 64, "0" * 64])
async def test_a_made_up_token_opens_nothing(service: AuthService, token_hash: str) -> None:
    with pytest.raises(SessionEnded):
        await service.get_current_session(SessionLookup(token_hash=token_hash))


async def test_creating_and_signing_in_again_give_the_first_answer(service: AuthService) -> None:
    first = await sign_in(service, "token")
    again = await sign_in(service, "token")

    assert first == again
    assert await models.Session.all().count() == 1
    assert await models.SignIn.all().count() == 1


async def test_one_session_comes_of_many_tries_at_once(
    on_postgres: None, passwords: Passwords, revocations: PostedRevocations, clock: Clock
) -> None:
    service = AuthService(passwords, revocations, clock, memberships=TenantsService(LocalWakeups()))

    sessions = await asyncio.gather(*(sign_in(service, "token") for _ in range(20)))

    assert len({session.id for session in sessions}) == 1
    assert await models.SignIn.all().count() == 1


async def test_a_login_is_undone_newest_first_as_if_it_had_never_been(service: AuthService) -> None:
    await sign_in(service, "token")

    for _ in range(2):
        await service.forget_sign_in("token:record_sign_in")
        await service.rollback_session_creation("token:create_session")

    assert not await opens(service, "token")
    assert await models.Session.all().count() == await models.SignIn.all().count() == 0


async def test_undos_before_their_steps_forestall_them(service: AuthService) -> None:
    await service.forget_sign_in("token:record_sign_in")
    session = await service.create_session(new_session("token"))
    with pytest.raises(EffectUndone):
        await service.record_sign_in(SignIn(key="token:record_sign_in", session_id=session.id))
    assert not await opens(service, "token")

    await service.rollback_session_creation("other:create_session")
    with pytest.raises(EffectUndone):
        await service.create_session(new_session("other"))


async def test_the_edge_is_told_when_a_sign_in_is_forgotten(
    service: AuthService, revocations: PostedRevocations
) -> None:
    await sign_in(service, "token")

    await service.forget_sign_in("token:record_sign_in")

    assert hash_of("token") in revocations.posted


async def switch(service: AuthService, old: Session) -> Session:
    """As the workflow does it: from ``old`` to a session with the token "new"."""
    await join(ADA, GLOBEX, Role.ADMIN)
    new = await service.create_session(new_session("new", tenant_id=GLOBEX).model_copy(update={"replaces": old.id}))
    await service.hand_over_session(SessionHandover(key="switch:end", session_id=new.id, old_session_id=old.id))
    return new


async def test_a_handover_activates_the_new_session_and_ends_the_old_one(
    service: AuthService, revocations: PostedRevocations
) -> None:
    old = await sign_in(service, "old")

    new = await switch(service, old)

    assert await opens(service, "new")
    assert not await opens(service, "old")
    assert [session.id for session in await service.list_sessions(ADA)] == [new.id]
    assert revocations.posted == {hash_of("old")}


async def test_a_chain_of_switches_ends_when_the_first_session_would_have_ended(
    service: AuthService, clock: Clock
) -> None:
    first = last = await sign_in(service, "0")
    await join(ADA, GLOBEX, Role.ADMIN)
    for number in range(1, 4):
        clock.pass_by(timedelta(hours=1))
        tenant = GLOBEX if number % 2 else ACME
        new = new_session(str(number), tenant_id=tenant).model_copy(update={"replaces": last.id})
        session = await service.create_session(new)
        assert session.expires_at == first.expires_at
        await service.hand_over_session(
            SessionHandover(key=f"{number}:end", session_id=session.id, old_session_id=last.id)
        )
        last = session
    clock.pass_by(timedelta(hours=1, minutes=50))
    assert await opens(service, "3")
    clock.pass_by(timedelta(hours=20))
    assert not await opens(service, "3")


async def test_a_session_that_was_handed_over_shows_its_switch_until_it_would_have_expired(
    service: AuthService, clock: Clock
) -> None:
    await switch(service, await sign_in(service, "old"))
    lookup = SessionLookup(token_hash=hash_of("old"))

    clock.pass_by(timedelta(hours=24) - timedelta(seconds=1))
    await service.get_handed_over_session(lookup)
    clock.pass_by(timedelta(seconds=1))
    with pytest.raises(SessionEnded):
        await service.get_handed_over_session(lookup)


async def test_a_session_that_lay_idle_is_handed_over_to_none(service: AuthService, clock: Clock) -> None:
    old = await sign_in(service, "old")
    clock.pass_by(IDLE + SEEN_EVERY)

    with pytest.raises(SessionEnded):
        await switch(service, old)

    assert not await opens(service, "new")
    assert await service.list_sessions(ADA) == []


async def test_a_session_that_expired_before_its_sign_in_is_never_activated(service: AuthService, clock: Clock) -> None:
    session = await service.create_session(new_session("token"))
    clock.pass_by(timedelta(hours=24))

    with pytest.raises(SessionEnded):
        await service.record_sign_in(SignIn(key="sign-in", session_id=session.id))
    with pytest.raises(SessionEnded):
        await service.hand_over_session(SessionHandover(key="switch", session_id=session.id))
    assert not (await models.Session.get(id=session.id)).active


async def test_a_session_is_activated_by_one_step_only(service: AuthService) -> None:
    session = await sign_in(service, "token")

    with pytest.raises(SessionEnded):
        await service.record_sign_in(SignIn(key="another sign-in", session_id=session.id))
    with pytest.raises(SessionEnded):
        await service.hand_over_session(SessionHandover(key="switch", session_id=session.id))
    assert await opens(service, "token")


async def test_rolling_back_a_session_publishes_its_revocation(
    service: AuthService, revocations: PostedRevocations
) -> None:
    await sign_in(service, "token")

    await service.rollback_session_creation("token:create_session")

    assert revocations.posted == {hash_of("token")}
    assert not await opens(service, "token")


async def test_a_listing_of_sessions_shows_the_newest_100(service: AuthService, clock: Clock) -> None:
    oldest = await sign_in(service, "oldest")
    clock.pass_by(timedelta(minutes=1))
    await models.Session.bulk_create(
        [
            models.Session(
                id=new_id("ses"),
                user_id=ADA,
                tenant_id=ACME,
                role=Role.ADMIN,
                token_hash=hash_of(str(number)),
                active=True,
                created_at=clock.now,
                expires_at=clock.now + timedelta(hours=24),
            )
            for number in range(100)
        ]
    )

    listed = await service.list_sessions(ADA)

    assert len(listed) == 100
    assert oldest.id not in {session.id for session in listed}


async def test_a_session_cannot_replace_one_that_is_not_there(service: AuthService) -> None:
    with pytest.raises(SessionEnded):
        await service.create_session(new_session("new").model_copy(update={"replaces": new_id("ses")}))


async def test_the_role_and_membership_of_now_decide_what_a_session_opens(service: AuthService) -> None:
    session = await sign_in(service, "token", role=Role.ADMIN)
    check = PermissionCheck(session_id=session.id, permissions=("users:onboard",))
    lookup = SessionLookup(token_hash=hash_of("token"))
    await service.check_permissions(check)

    await join(ADA, ACME, Role.GUEST)
    for found in (
        await service.get_current_session(lookup),
        await service.get_session(session.id),
        *(await service.list_sessions(ADA)),
        *(
            each.session
            for each in await service.get_current_sessions(SessionLookups(token_hashes=(hash_of("token"),)))
        ),
    ):
        assert (found.role, found.permissions) == (Role.GUEST, tuple(sorted(PERMISSIONS[Role.GUEST])))
    with pytest.raises(PermissionDenied):
        await service.check_permissions(check)

    await Membership.filter(user_id=ADA).delete()
    assert not await opens(service, "token")
    assert await service.get_current_sessions(SessionLookups(token_hashes=(hash_of("token"),))) == []
    assert await service.list_sessions(ADA) == []
    with pytest.raises(SessionEnded):
        await service.get_session(session.id)
    with pytest.raises(SessionEnded):
        await service.check_permissions(check)


async def test_a_session_that_was_handed_over_shows_its_switch_to_members_only(service: AuthService) -> None:
    old = await sign_in(service, "old")
    await switch(service, old)
    lookup = SessionLookup(token_hash=hash_of("old"))
    assert (await service.get_handed_over_session(lookup)).session == old
    await Membership.filter(user_id=ADA, tenant_id=ACME).delete()
    with pytest.raises(SessionEnded):
        await service.get_handed_over_session(lookup)


async def test_a_handover_that_is_tried_again_tells_the_edge_again(
    service: AuthService, revocations: PostedRevocations
) -> None:
    old = await sign_in(service, "old")
    await switch(service, old)
    revocations.posted.clear()

    await switch(service, old)

    assert revocations.posted == {hash_of("old")}
    assert await opens(service, "new")


async def test_an_undone_handover_leaves_the_sessions_as_they_were(
    service: AuthService, revocations: PostedRevocations
) -> None:
    old = await sign_in(service, "old")
    before = await models.Session.all().values()
    await switch(service, old)

    for _ in range(2):
        await service.restore_previous_session("switch:end")
        await service.rollback_session_creation("new:create_session")

    assert await opens(service, "old")
    assert not await opens(service, "new")
    assert await models.Session.all().values() == before
    assert revocations.posted == {hash_of("new")}


async def test_an_undo_before_the_handover_forestalls_it(service: AuthService) -> None:
    old = await sign_in(service, "old")
    await service.restore_previous_session("switch:end")

    with pytest.raises(EffectUndone):
        await switch(service, old)

    assert await opens(service, "old")
    assert not await opens(service, "new")


async def test_a_switch_does_not_escape_a_revocation_of_the_session_that_started_it(service: AuthService) -> None:
    old = await sign_in(service, "old")
    await service.end_session(ADA, old.id)

    with pytest.raises(SessionEnded):
        await switch(service, old)

    assert not await opens(service, "new")


async def test_undoing_a_handover_revives_no_session_that_was_revoked_meanwhile(service: AuthService) -> None:
    old = await sign_in(service, "old")
    await switch(service, old)
    await service.end_session(ADA, old.id)

    await service.restore_previous_session("switch:end")

    assert not await opens(service, "old")


async def test_undoing_a_handover_to_a_session_that_was_revoked_revives_nothing(
    service: AuthService, revocations: PostedRevocations
) -> None:
    old = await sign_in(service, "old")
    new = await switch(service, old)
    await service.end_session(ADA, new.id)

    await service.restore_previous_session("switch:end")

    assert not await opens(service, "old")
    assert not await opens(service, "new")
    assert revocations.posted == {hash_of("old"), hash_of("new")}


async def test_of_a_handover_and_a_revocation_at_once_the_revocation_is_never_lost(
    on_postgres: None, passwords: Passwords, revocations: PostedRevocations, clock: Clock
) -> None:
    service = AuthService(passwords, revocations, clock, memberships=TenantsService(LocalWakeups()))
    for n in range(10):
        old = await sign_in(service, f"old-{n}")
        new = await service.create_session(new_session(f"new-{n}"))
        handover = SessionHandover(key=f"switch-{n}", session_id=new.id, old_session_id=old.id)

        outcome, _ = await asyncio.gather(
            service.hand_over_session(handover), service.end_session(ADA, old.id), return_exceptions=True
        )

        await service.restore_previous_session(f"switch-{n}")
        assert outcome is None or isinstance(outcome, SessionEnded)
        assert not await opens(service, f"old-{n}")


async def test_a_session_can_be_handed_over_without_an_old_one(service: AuthService) -> None:
    await join(ADA, ACME, Role.ADMIN)
    session = await service.create_session(new_session("token"))

    await service.hand_over_session(SessionHandover(key="login:activate", session_id=session.id))

    assert await opens(service, "token")


async def test_sessions_are_listed_newest_first_and_only_ones_own(service: AuthService, clock: Clock) -> None:
    first = await sign_in(service, "first")
    clock.pass_by(timedelta(minutes=1))
    second = await sign_in(service, "second")
    await sign_in(service, "hers", user_id=GRACE)

    assert await service.list_sessions(ADA) == [second, first]


async def test_a_session_that_is_ended_opens_nothing_and_the_edge_is_told(
    service: AuthService, revocations: PostedRevocations
) -> None:
    session = await sign_in(service, "token")

    for _ in range(2):
        await service.end_session(ADA, session.id)

    assert not await opens(service, "token")
    assert await service.list_sessions(ADA) == []
    assert revocations.posted == {hash_of("token")}


@pytest.mark.parametrize("session_id", ["ses_" + "f" * 32, "", "\0", "usr_" + "f" * 32, "x" * 5000])
async def test_a_foreign_and_an_absent_session_are_the_same(service: AuthService, session_id: str) -> None:
    hers = await sign_in(service, "hers", user_id=GRACE)

    refusals = []
    for each in (hers.id, session_id):
        with pytest.raises(SessionNotFound) as refused:
            await service.end_session(ADA, each)
        refusals.append((type(refused.value), refused.value.message))

    assert refusals[0] == refusals[1]
    assert await opens(service, "hers")
    with pytest.raises(SessionEnded):
        await service.get_session(session_id)


async def test_permissions_are_those_of_the_role(service: AuthService) -> None:
    session = await sign_in(service, "token", role=Role.MEMBER)

    await service.check_permissions(PermissionCheck(session_id=session.id, permissions=("files:write", "files:read")))
    with pytest.raises(PermissionDenied):
        await service.check_permissions(
            PermissionCheck(session_id=session.id, permissions=("files:write", "users:onboard"))
        )
    with pytest.raises(SessionEnded):
        await service.check_permissions(PermissionCheck(session_id=session.id, permissions=()), user_id=GRACE)
    with pytest.raises(SessionEnded):
        await service.check_permissions(PermissionCheck(session_id=new_id("ses"), permissions=()))


async def test_permissions_may_be_asked_for_with_whose_session_it_must_be_and_where(service: AuthService) -> None:
    session = await sign_in(service, "token")
    check = PermissionCheck(
        session_id=session.id, permissions=("users:onboard",), user_id=session.user_id, tenant_id=session.tenant_id
    )

    assert await service.check_permissions(check) == session
    with pytest.raises(SessionEnded):
        await service.check_permissions(check.model_copy(update={"user_id": GRACE}))
    with pytest.raises(PermissionDenied):
        await service.check_permissions(check.model_copy(update={"tenant_id": GLOBEX}))


async def test_a_token_is_nowhere_in_the_database(service: AuthService) -> None:
    await sign_in(service, "the-token-itself")

    stored = [*await models.Session.all().values(), *await models.AuthEffect.all().values()]

    assert "the-token-itself:create_session" in str(stored)
    assert str(stored).count("the-token-itself") == 2  # the keys of the steps alone


async def test_only_a_session_that_a_handover_ended_is_told_by_its_old_token(
    service: AuthService, clock: Clock
) -> None:
    old = await sign_in(service, "old")
    new = await service.create_session(new_session("new", tenant_id=GLOBEX))
    await sign_in(service, "revoked")
    lookup = SessionLookup(token_hash=hash_of("old"))
    with pytest.raises(SessionEnded):
        await service.get_handed_over_session(lookup)

    await service.hand_over_session(SessionHandover(key="switch:end", session_id=new.id, old_session_id=old.id))
    told = await service.get_handed_over_session(lookup)
    assert (told.session.id, told.ended_by) == (old.id, "switch:end")

    for token in ("new", "revoked", "unknown"):
        with pytest.raises(SessionEnded):
            await service.get_handed_over_session(SessionLookup(token_hash=hash_of(token)))
    await service.end_session(ADA, old.id)
    with pytest.raises(SessionEnded):
        await service.get_handed_over_session(lookup)


async def test_a_session_is_over_after_two_hours_without_use_however_long_it_could_last(
    service: AuthService, clock: Clock
) -> None:
    await sign_in(service, "token")
    for _ in range(5):
        clock.pass_by(IDLE)
        assert await opens(service, "token")

    clock.pass_by(IDLE + SEEN_EVERY)

    assert not await opens(service, "token")
    assert await service.list_sessions(ADA) == []


async def test_use_does_not_make_a_session_last_longer_than_a_day(service: AuthService, clock: Clock) -> None:
    await sign_in(service, "token")
    for _ in range(23):
        clock.pass_by(timedelta(hours=1))
        assert await opens(service, "token")

    clock.pass_by(timedelta(hours=1))

    assert not await opens(service, "token")


async def test_use_is_noted_every_few_minutes_and_not_at_each_request(service: AuthService, clock: Clock) -> None:
    session = await sign_in(service, "token")
    signed_in_at = clock.now

    clock.pass_by(SEEN_EVERY / 2)
    assert await opens(service, "token")
    assert (await models.Session.get(id=session.id)).last_seen_at == signed_in_at

    clock.pass_by(SEEN_EVERY / 2)
    assert await opens(service, "token")
    assert (await models.Session.get(id=session.id)).last_seen_at == clock.now

"""How much of a login a client sees: by its id, by proof that it started the login, and by its session."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from contracts.auth import Role, Session
from contracts.base import utc_now
from contracts.errors import FieldError, OperationErrorCode, OperationNotFound
from contracts.operations import (
    LoggedIn,
    Operation,
    OperationFailure,
    OperationKind,
    OperationState,
    OperationStatus,
    Position,
    StepStatus,
)
from resolvers.operations.access import OperationAccess, public_login

USER, TENANT = "usr_" + "a" * 32, "ten_" + "b" * 32
OTHER = "usr_" + "f" * 32
LOGIN = "login-" + "c" * 32
CLOSED_AT = utc_now()


def session(user_id: str = USER) -> Session:
    return Session(
        id="ses_" + "d" * 32,
        user_id=user_id,
        tenant_id=TENANT,
        role=Role.OWNER,
        permissions=("operations:administer",),
        created_at=CLOSED_AT,
        expires_at=CLOSED_AT + timedelta(days=1),
    )


def login(status: OperationStatus) -> Operation:
    """A login that holds user and tenant wherever an operation can."""
    state = OperationState.first(OperationKind.LOGIN, CLOSED_AT, started_by=USER)
    failed = state.steps[0].model_copy(
        update={"status": StepStatus.FAILED, "last_error": f"No {USER}", "detail": {"tenant": TENANT}}
    )
    failure = OperationFailure(
        code=OperationErrorCode.PERMISSION_DENIED,
        message=f"{USER} is no member of {TENANT}.",
        fields=(FieldError(path=("tenantId",), message=TENANT),),
    )
    return Operation(
        id=LOGIN,
        kind=OperationKind.LOGIN,
        user_id=USER,
        tenant_ids=(TENANT,),
        state=state.model_copy(
            update={
                "status": status,
                "steps": (failed, *state.steps[1:]),
                "failure": failure if status is OperationStatus.FAILED else None,
                "result": LoggedIn(user_id=USER, tenant_id=TENANT),
            }
        ),
        closed_at=CLOSED_AT if status.is_closed else None,
        position=Position(revision=7),
    )


def access(
    by: Session | None = None, *, has_proof: bool = False, made: Session | None = None, at: datetime = CLOSED_AT
) -> OperationAccess:
    async def session_of_login(_id: str) -> Session | None:
        return made

    return OperationAccess(
        by, started_login=lambda id: has_proof and id == LOGIN, session_of_login=session_of_login, clock=lambda: at
    )


@pytest.mark.parametrize("status", OperationStatus)
def test_a_public_login_names_neither_user_nor_tenant(status: OperationStatus) -> None:
    shown = public_login(login(status))
    assert USER not in shown.model_dump_json()
    assert TENANT not in shown.model_dump_json()
    assert (shown.id, shown.state.status, shown.position.revision) == (LOGIN, status, 7)
    assert (shown.state.failure is not None) == (status is OperationStatus.FAILED)


async def test_a_closed_login_can_be_read_by_its_id_for_one_hour() -> None:
    for status in (OperationStatus.COMPLETED, OperationStatus.FAILED):
        closed = login(status)
        just_before = access(at=CLOSED_AT + timedelta(minutes=59, seconds=59))
        assert await just_before.shown(closed) == public_login(closed)
        for has_proof in (False, True):
            late = access(session("usr_" + "e" * 32), has_proof=has_proof, at=CLOSED_AT + timedelta(hours=1))
            with pytest.raises(OperationNotFound):
                await late.shown(closed)
        assert await access(session(), at=CLOSED_AT + timedelta(days=9)).shown(closed) == closed


async def test_an_open_login_can_be_read_by_its_id_however_long_it_waits() -> None:
    waiting = login(OperationStatus.WAITING)
    assert await access(at=CLOSED_AT + timedelta(days=9)).shown(waiting) == public_login(waiting)


async def test_proof_shows_a_completed_login_only_while_its_session_is_open() -> None:
    completed = login(OperationStatus.COMPLETED)
    assert await access(has_proof=True, made=session()).shown(completed) == completed
    assert await access(has_proof=True).shown(completed) == public_login(completed)
    assert await access(has_proof=True, made=session("usr_" + "e" * 32)).shown(completed) == public_login(completed)
    failed = login(OperationStatus.FAILED)
    assert await access(has_proof=True).shown(failed) == failed


def switch(*tenant_ids: str) -> Operation:
    """A tenant switch of another user than ``session()``, from the first tenant to the last one."""
    return Operation(
        id="tenant-switch-" + "c" * 32,
        kind=OperationKind.TENANT_SWITCH,
        user_id=OTHER,
        tenant_ids=tenant_ids,
        state=OperationState.first(OperationKind.TENANT_SWITCH, CLOSED_AT, started_by=OTHER),
        position=Position(revision=0),
    )


async def test_an_administrator_sees_what_belongs_to_their_tenant_and_not_what_only_leads_to_it() -> None:
    ours, elsewhere = TENANT, "ten_" + "e" * 32
    for shown in (switch(ours), switch(ours, elsewhere)):
        assert await access(session()).shown(shown) == shown
    for foreign in (switch(elsewhere, ours), switch(elsewhere), switch()):
        with pytest.raises(OperationNotFound):
            await access(session()).shown(foreign)


async def test_another_member_of_the_tenant_does_not_see_an_operation_and_its_user_does_in_any_tenant() -> None:
    member = session().model_copy(update={"permissions": ("tenant:read",)})
    with pytest.raises(OperationNotFound):
        await access(member).shown(switch(TENANT))
    for theirs in (switch("ten_" + "e" * 32), switch()):
        assert await access(session(OTHER)).shown(theirs) == theirs


def test_only_proof_gives_control_of_a_login() -> None:
    access(has_proof=True).check_control(LOGIN)
    access().check_control("file-upload-" + "f" * 32)  # whether it is theirs, ``shown`` says
    for other in (access(), access(session())):
        with pytest.raises(OperationNotFound):
            other.check_control(LOGIN)

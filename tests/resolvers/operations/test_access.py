"""Access to operations: by the id of a login, by proof of its start, and by a session."""

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
from resolvers.operations.access import OperationAccess, redact_login

USER, TENANT = "usr_" + "a" * 32, "ten_" + "b" * 32
OTHER = "usr_" + "f" * 32
LOGIN = "login-" + "c" * 32
CLOSED_AT = utc_now()


def session(user_id: str = USER) -> Session:
    """Return a session of an administrator of ``TENANT``."""
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
    """Return a login that contains the user and the tenant in every possible field."""
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
    viewer: Session | None = None,
    *,
    has_proof: bool = False,
    login_session: Session | None = None,
    at: datetime = CLOSED_AT,
) -> OperationAccess:
    """Return the access of a client with these credentials at this time."""

    async def session_of_login(_id: str) -> Session | None:
        return login_session

    return OperationAccess(
        viewer, started_login=lambda id: has_proof and id == LOGIN, session_of_login=session_of_login, clock=lambda: at
    )


@pytest.mark.parametrize("status", OperationStatus)
def test_redacted_login_contains_neither_user_nor_tenant(status: OperationStatus) -> None:
    visible = redact_login(login(status))
    assert USER not in visible.model_dump_json()
    assert TENANT not in visible.model_dump_json()
    assert (visible.id, visible.state.status, visible.position.revision) == (LOGIN, status, 7)
    assert (visible.state.failure is not None) == (status is OperationStatus.FAILED)


async def test_closed_login_can_be_read_by_id_for_one_hour() -> None:
    for status in (OperationStatus.COMPLETED, OperationStatus.FAILED):
        closed = login(status)
        just_before = access(at=CLOSED_AT + timedelta(minutes=59, seconds=59))
        assert await just_before.authorize_read(closed) == redact_login(closed)
        for has_proof in (False, True):
            late = access(session("usr_" + "e" * 32), has_proof=has_proof, at=CLOSED_AT + timedelta(hours=1))
            with pytest.raises(OperationNotFound):
                await late.authorize_read(closed)
        assert await access(session(), at=CLOSED_AT + timedelta(days=9)).authorize_read(closed) == closed


async def test_open_login_can_be_read_by_id_without_a_time_limit() -> None:
    waiting = login(OperationStatus.WAITING)
    assert await access(at=CLOSED_AT + timedelta(days=9)).authorize_read(waiting) == redact_login(waiting)


async def test_proof_grants_a_completed_login_only_while_its_session_is_open() -> None:
    completed = login(OperationStatus.COMPLETED)
    assert await access(has_proof=True, login_session=session()).authorize_read(completed) == completed
    assert await access(has_proof=True).authorize_read(completed) == redact_login(completed)
    assert await access(has_proof=True, login_session=session("usr_" + "e" * 32)).authorize_read(
        completed
    ) == redact_login(completed)
    failed = login(OperationStatus.FAILED)
    assert await access(has_proof=True).authorize_read(failed) == failed


def switch(*tenant_ids: str) -> Operation:
    """Return a tenant switch of another user than that of ``session()``, from the first tenant to the last one."""
    return Operation(
        id="tenant-switch-" + "c" * 32,
        kind=OperationKind.TENANT_SWITCH,
        user_id=OTHER,
        tenant_ids=tenant_ids,
        state=OperationState.first(OperationKind.TENANT_SWITCH, CLOSED_AT, started_by=OTHER),
        position=Position(revision=0),
    )


async def test_administrator_sees_operations_of_the_tenant_but_not_switches_to_it() -> None:
    ours, elsewhere = TENANT, "ten_" + "e" * 32
    for visible in (switch(ours), switch(ours, elsewhere)):
        assert await access(session()).authorize_read(visible) == visible
    for hidden in (switch(elsewhere, ours), switch(elsewhere), switch()):
        with pytest.raises(OperationNotFound):
            await access(session()).authorize_read(hidden)


async def test_operation_is_visible_to_its_user_in_any_tenant_but_not_to_members() -> None:
    member = session().model_copy(update={"permissions": ("tenant:read",)})
    with pytest.raises(OperationNotFound):
        await access(member).authorize_read(switch(TENANT))
    for own in (switch("ten_" + "e" * 32), switch()):
        assert await access(session(OTHER)).authorize_read(own) == own


def test_only_proof_of_the_start_grants_control_of_a_login() -> None:
    access(has_proof=True).authorize_control(LOGIN)
    access().authorize_control("file-upload-" + "f" * 32)  # other kinds are checked by ``authorize_read``
    for other in (access(), access(session())):
        with pytest.raises(OperationNotFound):
            other.authorize_control(LOGIN)

"""Access control for operations: which operations a client may read, and which logins it may control."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from contracts.auth import Session
from contracts.base import utc_now
from contracts.errors import OperationNotFound
from contracts.operations import Operation, OperationKind, OperationState, OperationStatus, Step, kind_of

ADMINISTER_OPERATIONS = "operations:administer"
PUBLIC_LOGIN_PERIOD = timedelta(hours=1)
"""How long after its close a login can be read by a client that knows only the id of the login."""

_STEP_FAILED = "The last attempt failed."
_LOGIN_FAILED = "The login did not complete; sign in again."


class OperationAccess:
    """Access of one client to operations.

    The id of a login appears in logs, so the id alone grants only the redacted state of ``redact_login``. Everything
    else
    requires the session of the user, or proof that the client started the login (the session token of that login).

    Args:
        session: The open session of the client; for the tenant switch that ended it, that former session.
        started_login: Returns whether the client presented the session token of the login with this id.
        session_of_login: Returns the session that the login with this id created, if it is open.
        clock: Returns the current time.
    """

    def __init__(
        self,
        session: Session | None,
        *,
        started_login: Callable[[str], bool],
        session_of_login: Callable[[str], Awaitable[Session | None]],
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._session = session
        self._started_login = started_login
        self._session_of_login = session_of_login
        self._clock = clock

    async def authorize_read(self, operation: Operation) -> Operation:
        """Return the operation as the client may see it.

        Raises:
            OperationNotFound: the client may not see the operation.
        """
        if operation.kind is OperationKind.LOGIN:
            return await self._authorize_login_read(operation)
        session = self._session
        if session is None:
            raise OperationNotFound()
        is_administrator = ADMINISTER_OPERATIONS in session.permissions and operation.tenant_ids[:1] == (
            session.tenant_id,
        )
        if operation.user_id != session.user_id and not is_administrator:
            raise OperationNotFound()
        return operation

    def authorize_control(self, operation_id: str) -> None:
        """Check that the client may submit a code to the login, or cancel it; any other operation passes.

        Raises:
            OperationNotFound: the operation is a login that this client did not start.
        """
        if kind_of(operation_id) is OperationKind.LOGIN and not self._started_login(operation_id):
            raise OperationNotFound()

    async def _authorize_login_read(self, login: Operation) -> Operation:
        """Return the full login to its user and its client; to any other client the redacted login for an hour."""
        if self._session is not None and self._session.user_id == login.user_id:
            return login
        is_public = login.closed_at is None or self._clock() < login.closed_at + PUBLIC_LOGIN_PERIOD
        if self._started_login(login.id) and await self._is_proof_valid(login, is_public=is_public):
            return login
        if not is_public:
            raise OperationNotFound()
        return redact_login(login)

    async def _is_proof_valid(self, login: Operation, *, is_public: bool) -> bool:
        """Return whether proof of the start grants the full state.

        A completed login requires that the session that it created is still open.
        """
        if login.state.status is not OperationStatus.COMPLETED:
            return is_public
        session = await self._session_of_login(login.id)
        return session is not None and session.user_id == login.user_id


def redact_login(login: Operation) -> Operation:
    """Return the login without data of the user and the tenant, for a client that knows only the id of the login."""
    state = login.state
    failure = state.failure
    return Operation(
        id=login.id,
        kind=login.kind,
        user_id="",
        tenant_ids=(),
        state=OperationState(
            revision=state.revision,
            started_at=state.started_at,
            status=state.status,
            steps=tuple(_redact_step(step) for step in state.steps),
            challenge=state.challenge,
            failure=failure and failure.model_copy(update={"message": _LOGIN_FAILED, "fields": ()}),
        ),
        closed_at=login.closed_at,
        position=login.position,
    )


def _redact_step(step: Step) -> Step:
    """Return the step without its detail and the text of its error."""
    return step.model_copy(update={"detail": None, "last_error": step.last_error and _STEP_FAILED})

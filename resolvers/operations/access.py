"""Which operations a client may see, how much of each, and which logins it may control."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from contracts.auth import Session
from contracts.base import utc_now
from contracts.errors import OperationNotFound
from contracts.operations import Operation, OperationKind, OperationState, OperationStatus, Step, kind_of

ADMINISTER = "operations:administer"
PUBLIC_PERIOD = timedelta(hours=1)
"""After its close, how long a login can still be read by a client that knows only its id."""

_STEP_FAILED = "The last attempt failed."
_LOGIN_FAILED = "The login did not complete; sign in again."


class OperationAccess:
    """Access of one client to operations.

    The id of a login is logged, so the id alone grants little: see ``public_login``. Everything else needs the session
    of the user, or proof that the client started the login (the session token of that login).

    Args:
        session: The open session of the client; for the switch that ended it, that former session.
        started_login: Whether the client presented the session token of the login with this id.
        session_of_login: The session that the login with this id made, if it is open.
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

    async def shown(self, operation: Operation) -> Operation:
        """Return the operation as the client may see it.

        Raises:
            OperationNotFound: the client may not see it at all.
        """
        if operation.kind is OperationKind.LOGIN:
            return await self._shown_login(operation)
        session = self._session
        if session is None:
            raise OperationNotFound()
        is_administrator = ADMINISTER in session.permissions and operation.tenant_ids[:1] == (session.tenant_id,)
        if operation.user_id != session.user_id and not is_administrator:
            raise OperationNotFound()
        return operation

    def check_control(self, operation_id: str) -> None:
        """Raise OperationNotFound for a login that the client did not start; only its client may submit and cancel."""
        if kind_of(operation_id) is OperationKind.LOGIN and not self._started_login(operation_id):
            raise OperationNotFound()

    async def _shown_login(self, login: Operation) -> Operation:
        if self._session is not None and self._session.user_id == login.user_id:
            return login
        is_public = login.closed_at is None or self._clock() < login.closed_at + PUBLIC_PERIOD
        if self._started_login(login.id) and await self._is_still_theirs(login, is_public=is_public):
            return login
        if not is_public:
            raise OperationNotFound()
        return public_login(login)

    async def _is_still_theirs(self, login: Operation, *, is_public: bool) -> bool:
        """Whether proof of the start shows the user: once a session was made, only while that session is open."""
        if login.state.status is not OperationStatus.COMPLETED:
            return is_public
        session = await self._session_of_login(login.id)
        return session is not None and session.user_id == login.user_id


def public_login(login: Operation) -> Operation:
    """Return the login as a client may see it that knows only the id: nothing of it names the user or the tenant."""
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
            steps=tuple(_public_step(step) for step in state.steps),
            challenge=state.challenge,
            failure=failure and failure.model_copy(update={"message": _LOGIN_FAILED, "fields": ()}),
        ),
        closed_at=login.closed_at,
        position=login.position,
    )


def _public_step(step: Step) -> Step:
    return step.model_copy(update={"detail": None, "last_error": step.last_error and _STEP_FAILED})

"""The wait for a second factor: some tries, some minutes, and each code checked by the auth service."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

from activities.auth.activities import Auth
from contracts.auth import Identity, MfaChallenge, MfaMethod, TotpAttempt
from contracts.errors import DeadlineExceeded, InvalidCredentials, InvalidMfaCode, LoginNotWaiting
from workflows.failures import is_domain_error
from workflows.operation import OperationRun

TRIES = 5
PATIENCE = timedelta(minutes=5)


class MfaCheck:
    """One login's challenge: opened by ``passed``, answered by ``submit``."""

    def __init__(self) -> None:
        self._login: tuple[OperationRun, Identity] | None = None
        self._is_open = False
        self._tries_left = TRIES
        self._accepted = False
        self._one_at_a_time = asyncio.Lock()

    async def passed(self, operation: OperationRun, identity: Identity) -> None:
        """Wait for a code that is accepted; InvalidCredentials after the last wrong one, DeadlineExceeded without.

        A code that is being checked when time is up came in time: its answer decides.
        """
        self._expires_at = workflow.now() + PATIENCE
        self._login, self._is_open = (operation, identity), True
        self._challenge()
        with suppress(TimeoutError):
            await workflow.wait_condition(lambda: self._accepted or self._tries_left == 0, timeout=PATIENCE)
        self._is_open = False
        await workflow.wait_condition(workflow.all_handlers_finished)
        if self._accepted:
            return
        if self._tries_left == 0:
            raise InvalidCredentials("Too many wrong codes; sign in again.")
        raise DeadlineExceeded("The code did not come in time; sign in again.")

    async def submit(self, code: str) -> None:
        """Check a code. A wrong one raises InvalidMfaCode with the tries left; where no code is awaited, Conflict."""
        async with self._one_at_a_time:
            if self._login is None or not self._is_open or self._accepted or self._tries_left == 0:
                raise LoginNotWaiting()
            operation, identity = self._login
            tried = TotpAttempt(key=f"{operation.key}:{TRIES - self._tries_left}", user_id=identity.user_id, code=code)
            try:
                await operation.call(Auth.check_totp, tried)
            except ActivityError as error:
                if not is_domain_error(error, InvalidMfaCode):
                    raise
                self._tries_left -= 1
                self._challenge()
                raise InvalidMfaCode(attempts_left=self._tries_left) from error
            self._accepted = True

    def _challenge(self) -> None:
        assert self._login is not None
        operation, _ = self._login
        operation.wait(MfaChallenge(method=MfaMethod.TOTP, attempts_left=self._tries_left, expires_at=self._expires_at))

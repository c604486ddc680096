"""The wait of a login for the code of a second factor: a limited number of attempts within a limited time."""

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

MAX_ATTEMPTS = 5
CHALLENGE_TIMEOUT = timedelta(minutes=5)


class MfaCheck:
    """The MFA challenge of one login. ``wait`` opens the challenge, and ``submit`` answers it with a code."""

    def __init__(self) -> None:
        self._login: tuple[OperationRun, Identity] | None = None
        self._is_open = False
        self._attempts_left = MAX_ATTEMPTS
        self._is_accepted = False
        self._submission = asyncio.Lock()

    async def wait(self, operation: OperationRun, identity: Identity) -> None:
        """Wait until a code is accepted. A code that is being checked when the time expires still decides.

        Raises:
            InvalidCredentials: the last attempt failed.
            DeadlineExceeded: no code was accepted within ``CHALLENGE_TIMEOUT``.
        """
        self._expires_at = workflow.now() + CHALLENGE_TIMEOUT
        self._login, self._is_open = (operation, identity), True
        self._publish_challenge()
        with suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self._is_accepted or self._attempts_left == 0, timeout=CHALLENGE_TIMEOUT
            )
        self._is_open = False
        await workflow.wait_condition(workflow.all_handlers_finished)
        if self._is_accepted:
            return
        if self._attempts_left == 0:
            raise InvalidCredentials("Too many wrong codes; sign in again.")
        raise DeadlineExceeded("The code did not come in time; sign in again.")

    async def submit(self, code: str) -> None:
        """Check a code that the user has entered; one submission is checked at a time.

        Raises:
            InvalidMfaCode: the code is wrong; ``attempts_left`` states how many attempts are left.
            LoginNotWaiting: the login does not wait for a code.
        """
        async with self._submission:
            if self._login is None or not self._is_open or self._is_accepted or self._attempts_left == 0:
                raise LoginNotWaiting()
            operation, identity = self._login
            key = f"{operation.key}:{MAX_ATTEMPTS - self._attempts_left}"
            try:
                await operation.call(Auth.check_totp, TotpAttempt(key=key, user_id=identity.user_id, code=code))
            except ActivityError as error:
                if not is_domain_error(error, InvalidMfaCode):
                    raise
                self._attempts_left -= 1
                self._publish_challenge()
                raise InvalidMfaCode(attempts_left=self._attempts_left) from error
            self._is_accepted = True

    def _publish_challenge(self) -> None:
        assert self._login is not None
        operation, _ = self._login
        operation.wait_for_user(
            MfaChallenge(method=MfaMethod.TOTP, attempts_left=self._attempts_left, expires_at=self._expires_at)
        )

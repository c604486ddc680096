"""What each kind of operation is started with: its id, its command, and what the client asked for."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import JsonValue

from contracts.auth import LogInCommand, Role, Session, VerifiedCredentials
from contracts.base import utc_now
from contracts.files import ProcessFileCommand, UploadFileCommand
from contracts.operations import (
    FileProcessed,
    FileUploaded,
    LoggedIn,
    OperationKind,
    OperationState,
    SwitchedTenants,
    TenantSwitched,
    UserOnboarded,
    operation_id,
)
from contracts.tenants import SwitchTenantCommand
from contracts.users import OnboardUserCommand
from resolvers.operations import ADMINISTER
from resolvers.start import Order
from resolvers.tokens import new_user_id, session_token, token_hash
from workflows.log_in import LogIn
from workflows.onboard_user import OnboardUser
from workflows.process_file import ProcessFile
from workflows.switch_tenant import SwitchTenant
from workflows.upload_file import UploadFile


@dataclass(frozen=True)
class Wish:
    """A client's word on one order: ``key`` is its idempotency key, ``again`` the operation that is started again."""

    key: str | None = None
    again: str | None = None

    def asked(self, **what: JsonValue) -> JsonValue:
        """What is compared where the same key comes again."""
        return dict(what) if self.again is None else {"again": self.again}


@dataclass(frozen=True)
class Newcomer:
    """Somebody to onboard. ``password_hash``: argon2id, PHC form; ``totp_secret``: base 32, where MFA is asked for."""

    email: str
    name: str
    role: Role
    password_hash: str
    totp_secret: str | None


class Orders:
    """``secret`` is the edge's key, from which ids and tokens are derived."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def log_in(
        self, verified: VerifiedCredentials, tenant_id: str | None, wish: Wish
    ) -> Order[LogIn, LogInCommand, LoggedIn]:
        """A login for whoever gave the right password; ``tenant_id`` None is the tenant they work in."""
        kind = OperationKind.LOGIN
        login_id = operation_id(self._secret, kind, tenant_id="", user_id=verified.user_id, key=wish.key)
        token = session_token(self._secret, login_id)
        return Order(
            id=login_id,
            run=LogIn.run,
            command=LogInCommand(
                reference=verified.reference,
                user_id=verified.user_id,
                tenant_id=tenant_id,
                token_hash=token_hash(token),
            ),
            state=OperationState.first(kind, utc_now()),
            user_id=verified.user_id,
            tenant_id=None,
            asked=wish.asked(tenant=tenant_id),
            token=token,
        )

    def switch_tenant(
        self, viewer: Session, tenant_id: str, wish: Wish
    ) -> Order[SwitchTenant, SwitchTenantCommand, TenantSwitched]:
        """A switch of the viewer's session to another tenant."""
        kind = OperationKind.TENANT_SWITCH
        # A switch is the user's, not a tenant's: sent again from the new tenant, its key still names it.
        switch_id = operation_id(self._secret, kind, tenant_id="", user_id=viewer.user_id, key=wish.key)
        token = session_token(self._secret, switch_id)
        switch = SwitchedTenants(from_tenant_id=viewer.tenant_id, to_tenant_id=tenant_id)
        return Order(
            id=switch_id,
            run=SwitchTenant.run,
            command=SwitchTenantCommand(
                user_id=viewer.user_id,
                from_tenant_id=viewer.tenant_id,
                to_tenant_id=tenant_id,
                session_id=viewer.id,
                token_hash=token_hash(token),
            ),
            state=OperationState.first(kind, utc_now(), started_by=viewer.user_id, switch=switch),
            user_id=viewer.user_id,
            tenant_id=viewer.tenant_id,
            asked=wish.asked(tenant=tenant_id),
            token=token,
        )

    def upload_file(
        self, viewer: Session, upload_id: str, wish: Wish
    ) -> Order[UploadFile, UploadFileCommand, FileUploaded]:
        """A file of what was sent to this upload."""
        kind = OperationKind.FILE_UPLOAD
        return Order(
            id=self.id(kind, viewer, wish),
            run=UploadFile.run,
            command=UploadFileCommand(upload_id=upload_id, tenant_id=viewer.tenant_id, user_id=viewer.user_id),
            state=OperationState.first(kind, utc_now(), started_by=viewer.user_id),
            user_id=viewer.user_id,
            tenant_id=viewer.tenant_id,
            asked=wish.asked(upload=upload_id),
        )

    def process_file(
        self, viewer: Session, file_id: str, wish: Wish
    ) -> Order[ProcessFile, ProcessFileCommand, FileProcessed]:
        """What is in this file."""
        kind = OperationKind.FILE_PROCESSING
        return Order(
            id=self.id(kind, viewer, wish),
            run=ProcessFile.run,
            command=ProcessFileCommand(
                file_id=file_id,
                tenant_id=viewer.tenant_id,
                user_id=viewer.user_id,
                administers=ADMINISTER in viewer.permissions,
            ),
            state=OperationState.first(kind, utc_now(), started_by=viewer.user_id),
            user_id=viewer.user_id,
            tenant_id=viewer.tenant_id,
            asked=wish.asked(file=file_id),
        )

    def onboard_user(
        self, id: str, viewer: Session, newcomer: Newcomer, asked: JsonValue
    ) -> Order[OnboardUser, OnboardUserCommand, UserOnboarded]:
        """Somebody new in the viewer's tenant. ``id`` comes first, for the newcomer's secrets are derived from it."""
        return Order(
            id=id,
            run=OnboardUser.run,
            command=OnboardUserCommand(
                user_id=viewer.user_id,
                session_id=viewer.id,
                tenant_id=viewer.tenant_id,
                new_user_id=new_user_id(self._secret, id),
                email=newcomer.email,
                name=newcomer.name,
                role=newcomer.role,
                password_hash=newcomer.password_hash,
                totp_secret=newcomer.totp_secret,
            ),
            state=OperationState.first(OperationKind.USER_ONBOARDING, utc_now(), started_by=viewer.user_id),
            user_id=viewer.user_id,
            tenant_id=viewer.tenant_id,
            asked=asked,
        )

    def session_token(self, operation_id: str) -> str:
        """Of the session that the login or switch makes."""
        return session_token(self._secret, operation_id)

    def id(self, kind: OperationKind, viewer: Session, wish: Wish) -> str:
        """Of an operation that belongs to the viewer and their tenant."""
        return operation_id(self._secret, kind, tenant_id=viewer.tenant_id, user_id=viewer.user_id, key=wish.key)

"""What one execution carries: who asks, the services, and what was loaded for it so far."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from contracts.auth import ReplacedSession, Session
from contracts.errors import NotSignedIn, OperationNotFound, PermissionDenied, SessionEnded
from contracts.operation_records import OperationRecord
from contracts.operations import Operation, OperationKind, kind_of
from contracts.service_tokens import Caller
from infrastructure.caching.batching import DataLoader
from infrastructure.limits.fair_semaphore import Requester
from infrastructure.observability.logging import learn
from infrastructure.observability.pseudonyms import Pseudonyms
from resolvers.clients.auth import AuthClient
from resolvers.clients.files import FilesClient
from resolvers.clients.tenants import TenantsClient
from resolvers.clients.workspaces import WorkspacesClient
from resolvers.credential_verification import CredentialChecks
from resolvers.dashboard import DashboardDependencies
from resolvers.following.subscription_state import SubscriptionState
from resolvers.following.watcher import Delivery
from resolvers.loaders import MAX_BATCH_SIZE, Loaders
from resolvers.login_quota import LoginQuota
from resolvers.operations.access import OperationAccess
from resolvers.operations.cursors import Cursors
from resolvers.operations.onboarding_requests import OnboardingRequestFactory
from resolvers.operations.operations import Operations
from resolvers.operations.records import OperationRecords
from resolvers.operations.start import Command, Result, StartRequest, Workflow
from resolvers.operations.start_requests import StartRequestFactory
from resolvers.operations.step_durations import Durations
from resolvers.sign_in_throttle import ClientInfo, SignInThrottle
from resolvers.tokens import is_same_token, token_hash
from resolvers.user_cache import CachedUsersClient


class Sessions(Protocol):
    async def find(self, token: str, *, request_id: str) -> Session | None:
        """The session that the token opens now; None where it opens none."""

    def known(self, token: str | None) -> Session | None:
        """The session of the token, if an open stream keeps it current; None if none does."""


class SessionCookie(Protocol):
    """The browser's copy of the token. Over a websocket there is no answer to set it in, and nothing happens."""

    def keep(self, token: str, session: Session) -> None: ...

    def drop(self) -> None: ...

    def keep_login(self, token: str) -> None:
        """Proof that this browser started a login, until ``keep`` or ``drop``; ``token`` is that login's."""

    def keep_device(self, device: str) -> None:
        """What the device is known by from now on, which outlives the session."""


@dataclass(frozen=True)
class Backend:
    """What a process opened once and all executions share."""

    operations: Operations
    records: OperationRecords
    orders: StartRequestFactory
    onboarding_requests: OnboardingRequestFactory
    cursors: Cursors
    credentials: CredentialChecks
    throttle: SignInThrottle
    login_quota: LoginQuota
    auth: AuthClient
    users: CachedUsersClient
    tenants: TenantsClient
    files: FilesClient
    workspaces: WorkspacesClient
    dashboards: DashboardDependencies
    sessions: Sessions
    durations: Durations
    pseudonyms: Pseudonyms
    app_url: str


class Context:
    """For one execution. ``token`` is what the client presented, unverified; a socket sets it as it connects.

    ``login_tokens`` are those of logins that a browser started, by its login cookie: they prove that and open nothing.
    ``expected_tenant`` is the id of the tenant that the client displays, if it says so: any text, unverified.
    ``address`` is where this client reaches the gateway, for links that are paths on it. ``delivery`` is how the states
    of what is followed come, once there is one. ``following`` is shared by all executions of one socket.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        request_id: str,
        address: str,
        cookie: SessionCookie,
        token: str | None,
        login_tokens: tuple[str, ...] = (),
        expected_tenant: str | None = None,
        client: ClientInfo = ClientInfo(),  # noqa: B008 - it is immutable
    ) -> None:
        self.backend = backend
        self.request_id = request_id
        self.address = address
        self.cookie = cookie
        self.token = token
        self.login_tokens = login_tokens
        self.expected_tenant = expected_tenant
        self.client = client
        self.delivery: Delivery | None = None
        self.following = SubscriptionState()
        self._viewer: Session | None = None
        self._new_session: Session | None = None
        self._former_session: Session | None = None
        self._looked_up = False
        self._looking_up = asyncio.Lock()
        self._loaders: dict[Caller, Loaders] = {}
        self._operations: DataLoader[Operation] | None = None
        self._records: DataLoader[OperationRecord] | None = None

    def for_execution(self) -> Context:
        """The same client, with nothing looked up yet: a socket has one context for all of its life."""
        context = Context(
            self.backend,
            request_id=self.request_id,
            address=self.address,
            cookie=self.cookie,
            token=self.token,
            login_tokens=self.login_tokens,
            expected_tenant=self.expected_tenant,
            client=self.client,
        )
        context.following = self.following
        return context

    def forget(self) -> None:
        """Load everything anew from now on: the next result of a stream shows what then is."""
        self._loaders = {}
        self._operations = None
        self._records = None

    async def start(self, order: StartRequest[Workflow, Command, Result], *, wait_seconds: float) -> Operation:
        """Start the operation, as ``Operations.start``. What was loaded before may be other than it left it."""
        operation = await self.backend.operations.start(order, wait_seconds=wait_seconds)
        self.forget()
        return operation

    async def viewer(self) -> Session | None:
        """Who asks; None without a session that is open. Looked up once, however many fields ask."""
        if self._looked_up or self.token is None:
            return self._viewer
        async with self._looking_up:
            if not self._looked_up:
                self._viewer = await self.backend.sessions.find(self.token, request_id=self.request_id)
                self._looked_up = True
                if self._viewer is not None:
                    account = self.backend.pseudonyms.account(self._viewer.user_id)
                    learn(user=self._viewer.user_id, tenant=self._viewer.tenant_id, account=account)
        return self._viewer

    @property
    def found_viewer(self) -> Session | None:
        """The viewer if it has been looked up, else None: makes no call, so no decision may depend on None."""
        return self._viewer

    def access(self, session: Session | None) -> OperationAccess:
        """What this client may see of operations with that session."""
        return OperationAccess(session, started_login=self.started_login, session_of_login=self.session_of_login)

    def started_login(self, login_id: str) -> bool:
        """Whether the client presented the session token of this login."""
        return self.token_of_login(login_id) is not None

    def token_of_login(self, login_id: str) -> str | None:
        """The session token of this login if the client presented it: proof that the client started the login."""
        if kind_of(login_id) is not OperationKind.LOGIN:
            return None
        given = (*self.login_tokens, self.token or "")
        found = None
        for expected in self.backend.orders.session_tokens(login_id):
            if any([is_same_token(expected, token) for token in given]):  # noqa: C419 - compares all, at no one's pace
                found = expected
        return found

    async def session_of_login(self, login_id: str) -> Session | None:
        """The session that a login has made, if it is open, to a client that presented the token of this login."""
        token = self.token_of_login(login_id)
        return None if token is None else await self.backend.sessions.find(token, request_id=self.request_id)

    async def other_tenant(self) -> str | None:
        """The id of the tenant that the session is in, if the client expects another one."""
        if self.expected_tenant is None:
            return None
        viewer = await self.viewer()
        return None if viewer is None or viewer.tenant_id == self.expected_tenant else viewer.tenant_id

    def has_signed_in(self, session: Session) -> None:
        """Note the session that a mutation made: the result of the mutation is shown as this session sees it."""
        self._new_session = session

    async def onlooker(self) -> Session | None:
        """Return the session that decides what is shown: the one that this request made, or else the one that it
        presented, or else the one that a switch has ended and that may still see this switch.
        """
        return self._new_session or await self.viewer() or self._former_session

    async def signed_in(self) -> Session:
        """Who asks; raises NotSignedIn without a session that is open."""
        session = await self.viewer()
        if session is None:
            raise NotSignedIn()
        return session

    async def permitted(self, permission: str) -> Session:
        """Return the viewer's session; raises NotSignedIn, and PermissionDenied without the permission.

        It comes before all that costs more than a look at the session. The service that owns the data checks again.
        """
        session = await self.signed_in()
        if permission not in session.permissions:
            raise PermissionDenied()
        return session

    async def session_before(self) -> ReplacedSession:
        """The session that the token opened until a switch of tenant ended it; raises NotSignedIn for any other."""
        if self.token is None:
            raise NotSignedIn()
        try:
            return await self.backend.auth.handed_over_session(self.caller(), token_hash(self.token))
        except SessionEnded:
            raise NotSignedIn() from None

    def access_to_switch(self, before: ReplacedSession) -> OperationAccess:
        """What the session that a switch ended may still see: that switch, with its users and tenants."""
        self._former_session = before.session
        return self.access(before.session)

    async def requester(self) -> Requester:
        """Return whose share of expensive work this request has: the user's, or without a session the network's."""
        session = await self.viewer()
        return Requester(self.client.digest if session is None else session.user_id, self.request_id)

    async def load_operation(self, operation_id: str) -> Operation:
        """Load an operation without a check of access, once per request. Raises OperationNotFound."""
        if self._operations is None:
            requester = await self.requester()
            self._operations = self._operations or DataLoader(
                lambda ids: self.backend.operations.load(ids, requester), max_batch_size=MAX_BATCH_SIZE
            )
        operation = await self._operations.load(operation_id)
        if operation is None:
            raise OperationNotFound()
        return operation

    async def load_record(self, operation_id: str) -> OperationRecord | None:
        """Load the record of an operation without a check of access; raises ServiceUnavailable."""
        if self._records is None:
            self._records = DataLoader(self.backend.records.records, max_batch_size=MAX_BATCH_SIZE)
        return await self._records.load(operation_id)

    def caller(self, session: Session | None = None, *, account: str = "") -> Caller:
        """Return the principal for calls of services, which has no user without a session. ``account`` is the digest of
        the account that a request without a session names.
        """
        if session is None:
            return Caller(request_id=self.request_id, client=self.client.digest, account=account)
        return Caller(
            user_id=session.user_id,
            tenant_id=session.tenant_id,
            permissions=session.permissions,
            request_id=self.request_id,
            client=self.client.digest,
            account=self.backend.pseudonyms.account(session.user_id),
        )

    def loaders(self, caller: Caller) -> Loaders:
        """Return the loaders of this caller. Raises NotSignedIn for a caller without a user."""
        if caller.user_id is None:
            raise NotSignedIn()
        loaders = self._loaders.get(caller)
        if loaders is None:
            backend = self.backend
            loaders = self._loaders[caller] = Loaders(
                caller, backend.users, backend.tenants, backend.files, backend.workspaces, backend.auth
            )
        return loaders

"""The context of one GraphQL execution: the client, the viewer's session, the services and the data loaders."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from contracts.auth import ReplacedSession, Session
from contracts.callers import Caller
from contracts.errors import NotSignedIn, OperationNotFound, PermissionDenied, SessionEnded
from contracts.operation_records import OperationRecord
from contracts.operations import Operation, OperationKind, kind_of
from infrastructure.caching.batching import DataLoader
from infrastructure.limits.fair_semaphore import Requester
from infrastructure.observability.logging import bind
from infrastructure.observability.pseudonyms import Pseudonyms
from resolvers.clients.auth import AuthClient
from resolvers.clients.files import FilesClient
from resolvers.clients.tenants import TenantsClient
from resolvers.clients.workspaces import WorkspacesClient
from resolvers.credential_verification import CredentialVerifier
from resolvers.dashboard import DashboardDependencies
from resolvers.following.subscription_state import SubscriptionState
from resolvers.following.watcher import Delivery
from resolvers.loaders import MAX_BATCH_SIZE, Loaders
from resolvers.login_quota import LoginQuota
from resolvers.operations.access import OperationAccess
from resolvers.operations.cursors import Cursors
from resolvers.operations.lifecycle import OperationLifecycle
from resolvers.operations.onboarding_requests import OnboardingRequestFactory
from resolvers.operations.records import OperationRecords
from resolvers.operations.start import Command, Result, StartRequest, Workflow
from resolvers.operations.start_requests import StartRequestFactory
from resolvers.operations.step_durations import StepDurations
from resolvers.sign_in_throttle import ClientInfo, SignInThrottle
from resolvers.tokens import is_same_token, token_hash
from resolvers.user_cache import CachedUsersClient


class Sessions(Protocol):
    """Finds the session of a token."""

    async def find(self, token: str, *, request_id: str) -> Session | None:
        """Return the open session of the token; None if there is none."""

    def cached(self, token: str | None) -> Session | None:
        """Return the session of the token without a call, if an open stream keeps it current; else None."""


class SessionCookie(Protocol):
    """Sets and clears the cookies of a browser; without effect over a websocket, which has no response headers."""

    def set_session(self, token: str, session: Session) -> None:
        """Set the session cookie and clear the login cookie."""

    def clear(self) -> None:
        """Clear the session cookie and the login cookie."""

    def set_login(self, token: str) -> None:
        """Set the login cookie, which proves that this browser started the login with this session token."""

    def set_device(self, device: str) -> None:
        """Set the device cookie, which outlives the session."""


@dataclass(frozen=True)
class Backend:
    """Services and components that all executions of a process share."""

    operations: OperationLifecycle
    records: OperationRecords
    start_requests: StartRequestFactory
    onboarding_requests: OnboardingRequestFactory
    cursors: Cursors
    credentials: CredentialVerifier
    throttle: SignInThrottle
    login_quota: LoginQuota
    auth: AuthClient
    users: CachedUsersClient
    tenants: TenantsClient
    files: FilesClient
    workspaces: WorkspacesClient
    dashboards: DashboardDependencies
    sessions: Sessions
    durations: StepDurations
    pseudonyms: Pseudonyms
    app_url: str


class Context:
    """The client and the cached data of one GraphQL execution.

    Args:
        backend: the services and components of the process.
        request_id: the id of the request, for logs and errors.
        base_url: the URL under which this client reaches the gateway, for links to the gateway.
        cookie: sets the cookies of the response.
        token: the session token that the client presented, not verified; a websocket sets it on connection_init.
        login_tokens: session tokens in the browser's login cookie, not verified. They prove that the browser started
            these logins, and they open no session.
        expected_tenant: the tenant id that the client displays (X-Tenant-Id), any text, not verified; None if not sent.
        client: network and device of the client.

    Attributes:
        delivery: how a subscription receives its states (long-poll or polling), once it has received one.
        subscription: the operations that the client's connection follows, shared by all executions of one websocket.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        request_id: str,
        base_url: str,
        cookie: SessionCookie,
        token: str | None,
        login_tokens: tuple[str, ...] = (),
        expected_tenant: str | None = None,
        client: ClientInfo = ClientInfo(),  # noqa: B008 - it is immutable
    ) -> None:
        self.backend = backend
        self.request_id = request_id
        self.base_url = base_url
        self.cookie = cookie
        self.token = token
        self.login_tokens = login_tokens
        self.expected_tenant = expected_tenant
        self.client = client
        self.delivery: Delivery | None = None
        self.subscription = SubscriptionState()
        self._viewer: Session | None = None
        self._new_session: Session | None = None
        self._previous_session: Session | None = None
        self._is_viewer_loaded = False
        self._viewer_lock = asyncio.Lock()
        self._loaders: dict[Caller, Loaders] = {}
        self._operations: DataLoader[Operation] | None = None
        self._records: DataLoader[OperationRecord] | None = None

    def for_execution(self) -> Context:
        """Return a context of the same client without cached data, for one execution on a websocket."""
        context = Context(
            self.backend,
            request_id=self.request_id,
            base_url=self.base_url,
            cookie=self.cookie,
            token=self.token,
            login_tokens=self.login_tokens,
            expected_tenant=self.expected_tenant,
            client=self.client,
        )
        context.subscription = self.subscription
        return context

    def reset_loaders(self) -> None:
        """Discard loaded data, so that the next result of a subscription or mutation shows the current data."""
        self._loaders = {}
        self._operations = None
        self._records = None

    async def start(self, request: StartRequest[Workflow, Command, Result], *, wait_seconds: float) -> Operation:
        """Start an operation (see ``OperationLifecycle.start``) and discard loaded data that it may have changed."""
        operation = await self.backend.operations.start(request, wait_seconds=wait_seconds)
        self.reset_loaders()
        return operation

    async def viewer(self) -> Session | None:
        """Return the open session of the client's token, looked up once per execution; None without an open session."""
        if self._is_viewer_loaded or self.token is None:
            return self._viewer
        async with self._viewer_lock:
            if not self._is_viewer_loaded:
                self._viewer = await self.backend.sessions.find(self.token, request_id=self.request_id)
                self._is_viewer_loaded = True
                if self._viewer is not None:
                    account = self.backend.pseudonyms.account(self._viewer.user_id)
                    bind(user=self._viewer.user_id, tenant=self._viewer.tenant_id, account=account)
        return self._viewer

    @property
    def loaded_viewer(self) -> Session | None:
        """The viewer's session if it is loaded already, else None. None does not mean that there is no session."""
        return self._viewer

    def access(self, session: Session | None) -> OperationAccess:
        """Return the rules by which this client, with that session, may see operations."""
        return OperationAccess(session, started_login=self.started_login, session_of_login=self.session_of_login)

    def started_login(self, login_id: str) -> bool:
        """Return whether the client presented the session token of this login."""
        return self.token_of_login(login_id) is not None

    def token_of_login(self, login_id: str) -> str | None:
        """Return the session token of this login if the client presented it, which proves that it started the login."""
        if kind_of(login_id) is not OperationKind.LOGIN:
            return None
        presented = (*self.login_tokens, self.token or "")
        found = None
        for expected in self.backend.start_requests.session_tokens(login_id):
            if any([is_same_token(expected, token) for token in presented]):  # noqa: C419 - compares all tokens in constant time
                found = expected
        return found

    async def session_of_login(self, login_id: str) -> Session | None:
        """Return the open session that a login created; None unless the client presented the token of this login."""
        token = self.token_of_login(login_id)
        return None if token is None else await self.backend.sessions.find(token, request_id=self.request_id)

    async def unexpected_tenant_id(self) -> str | None:
        """Return the id of the session's tenant if the client displays another tenant; None if they are the same."""
        if self.expected_tenant is None:
            return None
        viewer = await self.viewer()
        return None if viewer is None or viewer.tenant_id == self.expected_tenant else viewer.tenant_id

    def set_new_session(self, session: Session) -> None:
        """Record the session that a mutation created; the result of the mutation shows what this session may see."""
        self._new_session = session

    async def effective_viewer(self) -> Session | None:
        """Return the session that decides which data the client sees.

        It is the session that this request created, or else the session that the client presented, or else the session
        that a tenant switch has ended and that may still see this switch.
        """
        return self._new_session or await self.viewer() or self._previous_session

    async def require_viewer(self) -> Session:
        """Return the viewer's session. Raises NotSignedIn without an open session."""
        session = await self.viewer()
        if session is None:
            raise NotSignedIn()
        return session

    async def require_permission(self, permission: str) -> Session:
        """Return the viewer's session if it has the permission.

        Call this method before expensive work. The service that owns the data checks the permission again.

        Raises:
            NotSignedIn: the client has no open session.
            PermissionDenied: the session lacks the permission.
        """
        session = await self.require_viewer()
        if permission not in session.permissions:
            raise PermissionDenied()
        return session

    async def previous_session(self) -> ReplacedSession:
        """Return the session of the token that a tenant switch has replaced.

        Raises:
            NotSignedIn: the client presented no token, or its session was not replaced by a tenant switch.
        """
        if self.token is None:
            raise NotSignedIn()
        try:
            return await self.backend.auth.get_replaced_session(self.caller(), token_hash(self.token))
        except SessionEnded:
            raise NotSignedIn() from None

    def access_to_switch(self, previous: ReplacedSession) -> OperationAccess:
        """Return the access of the session that a tenant switch has ended to this switch, its users and tenants."""
        self._previous_session = previous.session
        return self.access(previous.session)

    async def requester(self) -> Requester:
        """Return the key of this request's share of limited resources: the user, or without a session the network."""
        session = await self.viewer()
        return Requester(self.client.digest if session is None else session.user_id, self.request_id)

    async def load_operation(self, operation_id: str) -> Operation:
        """Load an operation without an access check, once per execution. Raises OperationNotFound."""
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
        """Load the record of an operation without an access check; None if it has none. Raises ServiceUnavailable."""
        if self._records is None:
            self._records = DataLoader(self.backend.records.records, max_batch_size=MAX_BATCH_SIZE)
        return await self._records.load(operation_id)

    def caller(self, session: Session | None = None, *, account: str = "") -> Caller:
        """Return the principal for calls of services; it has no user if ``session`` is None.

        Args:
            session: the session whose user calls the service.
            account: digest of the account that a request without a session names, for logs and limits.
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
        """Return the data loaders of this principal. Raises NotSignedIn for a principal without a user."""
        if caller.user_id is None:
            raise NotSignedIn()
        loaders = self._loaders.get(caller)
        if loaders is None:
            backend = self.backend
            loaders = self._loaders[caller] = Loaders(
                caller, backend.users, backend.tenants, backend.files, backend.workspaces, backend.auth
            )
        return loaders

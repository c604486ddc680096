"""Data and actions of the signed-in user: profile, sessions, preferences, dashboard, files and operations."""

from __future__ import annotations

from typing import NamedTuple

from contracts.auth import Session
from contracts.base import derived_id
from contracts.errors import InvalidInput, TenantNotFound, UserNotFound
from contracts.files import File
from contracts.operation_records import RecordFilter, RecordPageRequest
from contracts.tenants import Tenant
from contracts.users import Preferences, PreferencesPatch, User
from resolvers.context import Context
from resolvers.dashboard import DashboardResolver
from resolvers.files import list_files
from resolvers.following.observer import user_tag
from resolvers.inputs import (
    OperationPageInput,
    PageInput,
    RevokeSessionInput,
    UpdatePreferencesInput,
    prefix_input_path,
)
from resolvers.operations.records import OperationPage
from resolvers.paging import Page


class ViewerSession(NamedTuple):
    """One of the viewer's sessions, together with the viewer who reads it."""

    session: Session
    viewer: ViewerResolver

    @property
    def current(self) -> bool:
        """Whether this is the session of the viewer."""
        return self.session.id == self.viewer.session_id

    async def tenant(self) -> Tenant:
        """Return the tenant of the session (see ``ViewerResolver.tenant``)."""
        return await self.viewer.tenant(self.session.tenant_id)


class ViewerTenants(NamedTuple):
    """The tenants of the viewer, the current one of them, and the viewer's permissions in it."""

    available_tenants: tuple[Tenant, ...]
    current_tenant: Tenant
    permissions: tuple[str, ...]


class ViewerPreferences(Preferences):
    """The preferences of a user, with an id for normalized caches of clients."""

    id: str

    @classmethod
    def for_user(cls, user_id: str, preferences: Preferences) -> ViewerPreferences:
        """Return the preferences with an id that is derived from the user id."""
        return cls(id=derived_id("prf", user_id), **preferences.model_dump())


class SavedPreferences(NamedTuple):
    """The result of the mutation updatePreferences."""

    preferences: ViewerPreferences


class ViewerResolver:
    """Reads and changes the data of the user of one session.

    The session is usually that of the request. In the result of a login or tenant switch it is the new session.
    """

    def __init__(self, context: Context, session: Session) -> None:
        self._context = context
        self._session = session
        self.caller = context.caller(session)
        self.session_id = session.id
        self.id = derived_id("vwr", session.user_id, session.tenant_id)

    async def user(self) -> User:
        """Return the user. Raises UserNotFound."""
        user = await self._context.loaders(self.caller).user.load(self._session.user_id)
        if user is None:
            raise UserNotFound()
        return user

    def session(self) -> ViewerSession:
        """Return the session of this viewer."""
        return ViewerSession(self._session, self)

    async def sessions(self) -> list[ViewerSession]:
        """Return all open sessions of the user, newest first."""
        sessions = await self._context.loaders(self.caller).sessions.result()
        return [ViewerSession(session, self) for session in sessions]

    async def preferences(self) -> ViewerPreferences:
        """Return the user's preferences."""
        found = await self._context.loaders(self.caller).preferences.result()
        return ViewerPreferences.for_user(self._session.user_id, found)

    async def tenant(self, tenant_id: str) -> Tenant:
        """Return a tenant of which the user is a member. Raises TenantNotFound for any other tenant."""
        tenant = await self._context.loaders(self.caller).tenant.load(tenant_id)
        if tenant is None:
            raise TenantNotFound()
        return tenant

    async def tenant_overview(self) -> ViewerTenants:
        """Return the user's tenants and the permissions in the current one.

        Raises:
            TenantNotFound: the user is no longer a member of the current tenant.
        """
        available = await self._context.loaders(self.caller).memberships.result()
        current = next((tenant for tenant in available if tenant.id == self._session.tenant_id), None)
        if current is None:
            raise TenantNotFound()
        return ViewerTenants(available, current, self._session.permissions)

    def dashboard(self) -> DashboardResolver:
        """Return the resolver of the user's dashboard in the current tenant."""
        context = self._context
        return DashboardResolver(context.backend.dashboards, self._session, self.caller, context.loaders(self.caller))

    async def files(self, page: PageInput) -> Page[File]:
        """Return one page of the files that the user may see in the current tenant, newest first."""
        return await list_files(self._context, self._session, page)

    async def operations(self, page: OperationPageInput, filter: RecordFilter) -> OperationPage:
        """Return one page of the operations that the user started in the current tenant."""
        request = RecordPageRequest(first=page.first, filter=filter, order=page.order_by)
        return await self._context.backend.records.page(self.caller, request, after=page.after)

    async def update_preferences(self, input: UpdatePreferencesInput) -> SavedPreferences:
        """Change the preferences that the input contains.

        Raises:
            InvalidInput: the users service rejects a value; the error names its path in the mutation's input.
        """
        patch = PreferencesPatch.model_validate(input.model_dump())
        try:
            saved = await self._context.backend.users.update_preferences(self.caller, patch)
        except InvalidInput as error:
            raise prefix_input_path(error) from error
        await self._context.backend.dashboards.cache.invalidate(user_tag(self._session.user_id))
        self._context.reset_loaders()
        return SavedPreferences(ViewerPreferences.for_user(self._session.user_id, saved))

    async def revoke_session(self, input: RevokeSessionInput) -> None:
        """End one of the user's sessions, which may be the current one.

        Raises:
            SessionNotFound: the user has no such session.
        """
        await self._context.backend.auth.revoke_session(self.caller, input.session_id)
        self._context.reset_loaders()
        if input.session_id == self._session.id:
            self._context.cookie.clear()


async def find_viewer(context: Context) -> ViewerResolver | None:
    """Return the resolver of the request's viewer; None without an open session."""
    session = await context.viewer()
    return None if session is None else ViewerResolver(context, session)


async def require_viewer(context: Context) -> ViewerResolver:
    """Return the resolver of the request's viewer. Raises NotSignedIn without an open session."""
    return ViewerResolver(context, await context.require_viewer())

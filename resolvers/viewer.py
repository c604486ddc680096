"""What somebody who is signed in sees of themselves."""

from __future__ import annotations

from typing import NamedTuple

from contracts.auth import Session
from contracts.base import derived_id
from contracts.errors import InvalidInput, TenantNotFound, UserNotFound
from contracts.files import File
from contracts.operation_records import RecordFilter, RecordPageRequest
from contracts.tenants import Tenant
from contracts.users import Preferences, PreferencesPatch, User
from resolvers import files
from resolvers.context import Context
from resolvers.dashboard import Dashboard
from resolvers.following.observer import user_tag
from resolvers.inputs import (
    OperationPageInput,
    PageInput,
    RevokeSessionInput,
    UpdatePreferencesInput,
    in_the_input,
)
from resolvers.operations.records import OperationPage
from resolvers.paging import Page


class ViewerSession(NamedTuple):
    """One of the viewer's sessions, beside the one that looks at it."""

    session: Session
    viewer: Viewer

    @property
    def current(self) -> bool:
        return self.session.id == self.viewer.session_id

    async def tenant(self) -> Tenant:
        return await self.viewer.tenant(self.session.tenant_id)


class TenantOverview(NamedTuple):
    available_tenants: tuple[Tenant, ...]
    current_tenant: Tenant
    permissions: tuple[str, ...]


class ViewerPreferences(Preferences):
    """The preferences of a user, with an id for caches."""

    id: str

    @classmethod
    def of(cls, user_id: str, preferences: Preferences) -> ViewerPreferences:
        return cls(id=derived_id("prf", user_id), **preferences.model_dump())


class PreferencesSaved(NamedTuple):
    preferences: ViewerPreferences


class Viewer:
    """The user of one session, which need not be the one that sent the request: a login answers with what it made."""

    def __init__(self, context: Context, session: Session) -> None:
        self._context = context
        self._session = session
        self.caller = context.caller(session)
        self.session_id = session.id
        self.id = derived_id("vwr", session.user_id, session.tenant_id)

    async def user(self) -> User:
        user = await self._context.loaders(self.caller).user.load(self._session.user_id)
        if user is None:
            raise UserNotFound()
        return user

    def session(self) -> ViewerSession:
        return ViewerSession(self._session, self)

    async def sessions(self) -> list[ViewerSession]:
        """All open ones, newest first."""
        sessions = await self._context.loaders(self.caller).sessions.result()
        return [ViewerSession(session, self) for session in sessions]

    async def preferences(self) -> ViewerPreferences:
        found = await self._context.loaders(self.caller).preferences.result()
        return ViewerPreferences.of(self._session.user_id, found)

    async def tenant(self, tenant_id: str) -> Tenant:
        """A tenant of the viewer's; TenantNotFound where they are no member (any more)."""
        tenant = await self._context.loaders(self.caller).tenant.load(tenant_id)
        if tenant is None:
            raise TenantNotFound()
        return tenant

    async def tenant_overview(self) -> TenantOverview:
        available = await self._context.loaders(self.caller).memberships.result()
        current = next((tenant for tenant in available if tenant.id == self._session.tenant_id), None)
        if current is None:
            raise TenantNotFound()
        return TenantOverview(available, current, self._session.permissions)

    def dashboard(self) -> Dashboard:
        context = self._context
        return Dashboard(context.backend.dashboards, self._session, self.caller, context.loaders(self.caller))

    async def files(self, page: PageInput) -> Page[File]:
        """Those they see in the current tenant, newest first."""
        return await files.page(self._context, self._session, page)

    async def operations(self, page: OperationPageInput, filter: RecordFilter) -> OperationPage:
        """Those the viewer started in the current tenant."""
        request = RecordPageRequest(first=page.first, filter=filter, order=page.order_by)
        return await self._context.backend.records.page(self.caller, request, after=page.after)

    async def update_preferences(self, input: UpdatePreferencesInput) -> PreferencesSaved:
        """InvalidInput names the field that the service refuses by its path in the mutation's input."""
        patch = PreferencesPatch.model_validate(input.model_dump())
        try:
            saved = await self._context.backend.users.update_preferences(self.caller, patch)
        except InvalidInput as error:
            raise in_the_input(error) from error
        await self._context.backend.dashboards.cache.invalidate(user_tag(self._session.user_id))
        self._context.forget()
        return PreferencesSaved(ViewerPreferences.of(self._session.user_id, saved))

    async def revoke_session(self, input: RevokeSessionInput) -> None:
        """End one of the viewer's sessions, this one included; SessionNotFound where they have no such session."""
        await self._context.backend.auth.revoke_session(self.caller, input.session_id)
        self._context.forget()
        if input.session_id == self._session.id:
            self._context.cookie.drop()


async def viewer(context: Context) -> Viewer | None:
    session = await context.viewer()
    return None if session is None else Viewer(context, session)


async def signed_in_viewer(context: Context) -> Viewer:
    """Raises NotSignedIn without a session."""
    return Viewer(context, await context.signed_in())

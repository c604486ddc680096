"""The rules of workspaces: their owners and visibility."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from pydantic import JsonValue

from activities.idempotency import once, undo
from activities.workspaces import models
from contracts.base import is_id, new_id, utc_now
from contracts.errors import NotSignedIn
from contracts.service_tokens import Caller
from contracts.workspaces import NewWorkspace, Workspace

_LONGEST_NAME = 250


class WorkspacesService:
    """A workspace is visible in its tenant only, to its user and to the tenant's administrators."""

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock

    async def create_user_workspace(self, new: NewWorkspace) -> Workspace:
        async def create() -> JsonValue:
            row = await models.Workspace.create(
                id=new_id("wsp"),
                tenant_id=new.tenant_id,
                user_id=new.user_id,
                name=new.name[:_LONGEST_NAME],
                created_at=self._clock(),
            )
            return _workspace(row).model_dump()

        return Workspace.model_validate(await once(models.WorkspacesEffect, new.key, create))

    async def delete_workspace(self, key: str) -> None:
        async def delete(answer: JsonValue) -> None:
            await models.Workspace.filter(id=Workspace.model_validate(answer).id).delete()

        await undo(models.WorkspacesEffect, key, delete)

    async def get_workspaces(self, caller: Caller, ids: Iterable[str]) -> list[Workspace]:
        """Those of them that the caller may see, in the order asked for. Raises NotSignedIn."""
        if caller.user_id is None or caller.tenant_id is None:
            raise NotSignedIn()
        wanted = [each for each in dict.fromkeys(ids) if is_id(each, "wsp")]
        seen = models.Workspace.filter(tenant_id=caller.tenant_id, id__in=wanted)
        if "operations:administer" not in caller.permissions:
            seen = seen.filter(user_id=caller.user_id)
        rows = {row.id: row for row in await seen}
        return [_workspace(rows[each]) for each in wanted if each in rows]


def _workspace(row: models.Workspace) -> Workspace:
    return Workspace(id=row.id, name=row.name, tenant_id=row.tenant_id, user_id=row.user_id)

"""Switch the tenant that the viewer works in: what a client sends, and the operation that it starts."""

from __future__ import annotations

from collections.abc import Awaitable

import strawberry
from strawberry import ID, UNSET

from contracts import tenants
from resolvers.operations import fields as details
from schema.fields import Info, field
from schema.types.operations import Operation, OperationParent
from schema.types.tenants import Tenant
from schema.types.users import User
from schema.types.viewer import Viewer


@strawberry.input
class SwitchTenantInput:
    tenant_id: ID
    idempotency_key: str | None = UNSET
    wait_seconds: float | None = 10


@strawberry.type
class TenantSwitchResult:
    tenant: Tenant
    user: User
    permissions: list[str]


@strawberry.type
class TenantSwitch(Operation):
    @field(Tenant | None)
    @staticmethod
    async def from_tenant(operation: OperationParent, info: Info) -> tenants.Tenant | None:
        return await details.from_tenant(info.context, operation)

    @field(Tenant | None)
    @staticmethod
    async def to_tenant(operation: OperationParent, info: Info) -> tenants.Tenant | None:
        return await details.to_tenant(info.context, operation)

    @field(TenantSwitchResult | None)
    @staticmethod
    def result(operation: OperationParent, info: Info) -> Awaitable[details.SwitchOutcome | None] | None:
        return details.switch_outcome(info.context, operation) if operation.state.result else None


@strawberry.type(
    description="The old session, its token and its sockets end with the switch; "
    "sessionToken, as in LoginPayload, is the new one's."
)
class SwitchTenantPayload:
    operation: TenantSwitch
    session_token: str | None
    viewer: Viewer | None

"""The types of a tenant switch: input, operation and payload."""

from __future__ import annotations

from collections.abc import Awaitable

import strawberry
from strawberry import ID, UNSET

from contracts import tenants
from resolvers.operations import fields
from schema.descriptions import IDEMPOTENCY_KEY, RESULT, SESSION_TOKEN, STARTED_OPERATION, VIEWER, WAIT_SECONDS
from schema.fields import Info, field
from schema.types.operations import Operation, OperationParent
from schema.types.tenants import Tenant
from schema.types.users import User
from schema.types.viewer import Viewer


@strawberry.input(description="Input of switchTenant.")
class SwitchTenantInput:
    tenant_id: ID = strawberry.field(description="Id of the tenant of the new session.")
    idempotency_key: str | None = strawberry.field(default=UNSET, description=IDEMPOTENCY_KEY)
    wait_seconds: float | None = strawberry.field(default=10, description=WAIT_SECONDS)


@strawberry.type(description="Result of a tenant switch.")
class TenantSwitchResult:
    tenant: Tenant = strawberry.field(description="The new current tenant.")
    user: User = strawberry.field(description="The user of the session.")
    permissions: list[str] = strawberry.field(description="Permissions of the user in the new tenant.")


@strawberry.type(description="A switch of the current tenant: a new session in another tenant replaces the session.")
class TenantSwitch(Operation):
    @field(Tenant | None, "The tenant of the old session.")
    @staticmethod
    async def from_tenant(operation: OperationParent, info: Info) -> tenants.Tenant | None:
        return await fields.from_tenant(info.context, operation)

    @field(Tenant | None, "The tenant of the new session. Null if the viewer is not a member of it.")
    @staticmethod
    async def to_tenant(operation: OperationParent, info: Info) -> tenants.Tenant | None:
        return await fields.to_tenant(info.context, operation)

    @field(TenantSwitchResult | None, RESULT)
    @staticmethod
    def result(operation: OperationParent, info: Info) -> Awaitable[fields.SwitchOutcome | None] | None:
        return fields.switch_outcome(info.context, operation) if operation.state.result else None


@strawberry.type(
    description="The old session, its token and its connections end with the switch. "
    "sessionToken (see LoginPayload) is the new session's."
)
class SwitchTenantPayload:
    operation: TenantSwitch = strawberry.field(description=STARTED_OPERATION)
    session_token: str | None = strawberry.field(description=SESSION_TOKEN)
    viewer: Viewer | None = strawberry.field(description=VIEWER)

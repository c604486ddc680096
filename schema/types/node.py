"""Whatever has an id of its own."""

from __future__ import annotations

import strawberry

from contracts.files import File
from contracts.operations import Operation, OperationKind
from contracts.tenants import Tenant
from contracts.users import User
from contracts.workspaces import Workspace

OPERATION_TYPES = {kind: kind.title().replace("_", "") for kind in OperationKind}
"""The GraphQL type of each kind of operation bears its name: that of TENANT_SWITCH is TenantSwitch."""


@strawberry.interface
class Node:
    id: strawberry.ID

    @classmethod
    def resolve_type(cls, thing: object, _info: object, _abstract: object) -> str:
        """The name of the GraphQL type that shows the contract."""
        match thing:
            case Operation():
                return OPERATION_TYPES[thing.kind]
            case User() | Tenant() | Workspace() | File():
                return type(thing).__name__
        raise TypeError(f"A {type(thing).__name__} is no node.")

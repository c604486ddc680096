"""The interface Node, and the mapping of contracts to the object types that implement it."""

from __future__ import annotations

import strawberry

from contracts.files import File
from contracts.operations import Operation, OperationKind
from contracts.tenants import Tenant
from contracts.users import User
from contracts.workspaces import Workspace

OPERATION_TYPES = {kind: kind.title().replace("_", "") for kind in OperationKind}
"""The name of the GraphQL type of each kind of operation, for example TenantSwitch for TENANT_SWITCH."""


@strawberry.interface(description="An object with a global id (Relay object identification).")
class Node:
    id: strawberry.ID = strawberry.field(description="Global id, unique among all objects.")

    @classmethod
    def resolve_type(cls, value: object, _info: object, _abstract: object) -> str:
        """Return the name of the object type that represents a contract.

        Raises:
            TypeError: the value is not a contract that implements Node.
        """
        match value:
            case Operation():
                return OPERATION_TYPES[value.kind]
            case User() | Tenant() | Workspace() | File():
                return type(value).__name__
        raise TypeError(f"A {type(value).__name__} is no node.")

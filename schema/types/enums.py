"""The contracts' enumerations as the schema serves them. Import them from here, for they are described here."""

from __future__ import annotations

from enum import EnumMeta

import strawberry
from strawberry.types.enum import StrawberryEnumDefinition

from contracts.auth import MfaMethod
from contracts.errors import OperationErrorCode
from contracts.files import AccessLevel
from contracts.operation_records import OperationOrder
from contracts.operation_statistics import StatisticsInterval
from contracts.operations import OperationKind, OperationStatus, StepStatus
from contracts.tenants import SubscriptionTier
from contracts.users import Theme

__all__ = [
    "AccessLevel",
    "MfaMethod",
    "OperationErrorCode",
    "OperationKind",
    "OperationOrder",
    "OperationStatus",
    "StatisticsInterval",
    "StepStatus",
    "SubscriptionTier",
    "Theme",
]


def _serve(words: EnumMeta, **descriptions: str) -> None:
    """Make it one of the schema's, its members described by name."""
    served = strawberry.enum(words)
    definition: StrawberryEnumDefinition = served.__strawberry_definition__  # type: ignore[attr-defined]
    for value in definition.values:
        value.description = descriptions.pop(value.name, None)
    assert not descriptions, f"{words.__name__} has no {', '.join(descriptions)}"


_serve(AccessLevel)
_serve(MfaMethod)
_serve(OperationErrorCode)
_serve(OperationKind)
_serve(OperationOrder)
_serve(
    OperationStatus,
    WAITING="It waits for the user, for instance for an MFA code.",
    COMPENSATING="A step failed or the operation was cancelled; finished steps are being undone.",
)
_serve(StatisticsInterval)
_serve(StepStatus)
_serve(SubscriptionTier)
_serve(Theme)

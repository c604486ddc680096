"""The enumerations of the GraphQL schema, with their descriptions.

The enumerations are defined in ``contracts``. Schema modules import them from this module, which registers them with
Strawberry.
"""

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


def _register(enum: EnumMeta, description: str, **values: str) -> None:
    """Register an enumeration with Strawberry, with descriptions of its values by their names."""
    registered = strawberry.enum(enum, description=description)
    definition: StrawberryEnumDefinition = registered.__strawberry_definition__  # type: ignore[attr-defined]
    for value in definition.values:
        value.description = values.pop(value.name, None)
    assert not values, f"{enum.__name__} has no {', '.join(values)}"


_register(
    AccessLevel,
    "Who may see a file.",
    PRIVATE="The owner and the administrators of the tenant.",
    TENANT="All members of the tenant.",
)
_register(
    MfaMethod,
    "Second factor of a login.",
    TOTP="Time-based one-time password (RFC 6238) of an authenticator app.",
)
_register(
    OperationErrorCode,
    "Why an operation did not complete.",
    ACTIVITY_FAILED="A step failed with an unexpected error.",
    COMPENSATION_FAILED="A step failed, and at least one completed step could not be undone.",
    TIMEOUT_EXCEEDED="A step or the whole operation exceeded its deadline.",
    VALIDATION_FAILED="The input is not valid, or it conflicts with existing data.",
    PERMISSION_DENIED="The user lacks a permission, or is not a member of the tenant.",
    INVALID_CREDENTIALS="The password or the MFA code is wrong.",
    TENANT_ISOLATION_VIOLATION="The operation would have accessed data of another tenant.",
    EXTERNAL_SERVICE_UNAVAILABLE="A service is unavailable or limits the rate of requests.",
    DATA_INCONSISTENCY="Stored data contradicts itself, for example a file and its checksum.",
    CANCELLED="The operation was cancelled.",
)
_register(
    OperationKind,
    "Kind of an operation. Each kind has its own object type.",
    LOGIN="A sign-in (type Login).",
    TENANT_SWITCH="A switch of the current tenant (type TenantSwitch).",
    USER_ONBOARDING="Creation of a user with a workspace in the tenant (type UserOnboarding).",
    FILE_UPLOAD="Creation of a file from uploaded bytes (type FileUpload).",
    FILE_PROCESSING="Analysis of a file's content (type FileProcessing).",
)
_register(
    OperationOrder,
    "Sort order of operations. Ties are broken by id, and nulls come last.",
    STARTED_AT_DESC="Most recently started first.",
    STARTED_AT_ASC="Least recently started first.",
    CLOSED_AT_DESC="Most recently closed first.",
    DURATION_DESC="Longest duration first.",
)
_register(
    OperationStatus,
    "Status of an operation. COMPLETED, FAILED, CANCELLED and TIMED_OUT are final: the operation is closed.",
    RUNNING="Steps are being executed.",
    WAITING="Waiting for a person, for example for an MFA code.",
    COMPENSATING="A step failed or the operation was cancelled; completed steps are being undone.",
    COMPLETED="All steps are completed or skipped.",
    FAILED="A step failed; see error.",
    CANCELLED="The operation was cancelled.",
    TIMED_OUT="The operation exceeded its deadline.",
)
_register(
    StatisticsInterval,
    "Length of the intervals of a series.",
    MINUTE="One minute.",
    HOUR="One hour.",
    DAY="One day of the requested time zone.",
)
_register(
    StepStatus,
    "Status of a step of an operation.",
    PENDING="The step has not started.",
    RUNNING="The step is being executed.",
    RETRYING="An attempt failed, and the step is or will be attempted again.",
    COMPLETED="The step is completed.",
    SKIPPED="The step was not needed.",
    FAILED="The step failed.",
    COMPENSATED="The step was undone.",
    COMPENSATION_FAILED="The step could not be undone.",
)
_register(
    SubscriptionTier,
    "Subscription of a tenant, which determines its limits.",
    FREE="Free subscription.",
    PROFESSIONAL="Professional subscription.",
    ENTERPRISE="Enterprise subscription.",
)
_register(
    Theme,
    "Color theme of the user interface.",
    SYSTEM="The theme of the operating system.",
    LIGHT="Light theme.",
    DARK="Dark theme.",
)

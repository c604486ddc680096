"""The Strawberry input types of fields and mutations that start no operation, and their validation.

The limits of the values are defined by the models in ``resolvers.inputs``.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

import strawberry
from pydantic import BaseModel
from strawberry import ID, UNSET

from contracts.validation import validate
from schema.descriptions import IDEMPOTENCY_KEY, WAIT_SECONDS
from schema.scalars import ByteCount
from schema.types.enums import AccessLevel, OperationKind, OperationStatus, Theme


@strawberry.input(description="Selects operations that match all given fields.")
class OperationFilter:
    kinds: list[OperationKind] | None = strawberry.field(default=UNSET, description="Operations of these kinds.")
    statuses: list[OperationStatus] | None = strawberry.field(
        default=UNSET, description="Operations with one of these statuses."
    )
    except_kinds: list[OperationKind] | None = strawberry.field(
        default=UNSET, description="Operations of all other kinds than these."
    )
    started_after: datetime | None = strawberry.field(default=UNSET, description="Started at or after (inclusive).")
    started_before: datetime | None = strawberry.field(default=UNSET, description="Started before (exclusive).")
    started_by_ids: list[ID] | None = strawberry.field(
        default=UNSET,
        description="Ids of the users who started the operations. Applies to lists and statistics of all members only.",
    )
    target_ids: list[ID] | None = strawberry.field(
        default=UNSET, description="Ids of the objects that the operations concern."
    )
    search: str | None = strawberry.field(default=UNSET, description="Substring of the subject, case-insensitive.")


@strawberry.input(description="Input of revokeSession.")
class RevokeSessionInput:
    session_id: ID = strawberry.field(description="Id of one of the viewer's sessions.")


@strawberry.input(description="Input of createUpload.")
class CreateUploadInput:
    name: str = strawberry.field(description="File name.")
    content_type: str = strawberry.field(description="Media type of the file (RFC 6838).")
    size: ByteCount = strawberry.field(description="Number of bytes of the file.")
    checksum: str | None = strawberry.field(
        default=UNSET,
        description="Lower-case hex SHA-256 of the bytes. If it is set, an upload of other bytes fails.",
    )
    access_level: AccessLevel = strawberry.field(default=AccessLevel.PRIVATE, description="Who may see the file.")


@strawberry.input(description="Input of updatePreferences. Omitted fields and nulls leave a preference unchanged.")
class UpdatePreferencesInput:
    language: str | None = strawberry.field(default=UNSET, description="Language tag (RFC 5646), for example de-CH.")
    timezone: str | None = strawberry.field(
        default=UNSET, description="Time zone name of the IANA database, for example Europe/Zurich."
    )
    theme: Theme | None = strawberry.field(default=UNSET, description="Color theme of the user interface.")
    email_notifications: bool | None = strawberry.field(
        default=UNSET, description="Whether the user receives notifications by e-mail."
    )


@strawberry.input(description="Input of cancelOperation.")
class CancelOperationInput:
    id: ID = strawberry.field(description="Id of the operation.")


@strawberry.input(description="Input of retryOperation.")
class RetryOperationInput:
    id: ID = strawberry.field(description="Id of the failed operation.")
    idempotency_key: str | None = strawberry.field(default=UNSET, description=IDEMPOTENCY_KEY)
    wait_seconds: float | None = strawberry.field(default=0, description=WAIT_SECONDS)


Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], input: object, *, argument: str = "input") -> Model:
    """Return the values of an input object as a validated pydantic model.

    Args:
        model: the model that defines the limits and defaults of the values.
        input: the Strawberry input object; None or UNSET stands for an object without values.
        argument: the name of the GraphQL argument, with which the paths of errors begin.

    Raises:
        InvalidInput: at least one value is not valid.
    """
    values = provided(**vars(input)) if input else {}
    return validate(model, {name: value for name, value in values.items() if value is not None}, at=(argument,))


def provided(**arguments: object) -> dict[str, object]:
    """Return the arguments that the client sent, including nulls."""
    return {name: value for name, value in arguments.items() if value is not UNSET}

"""The bounds of everything that a client sends, beyond what its GraphQL type says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic.alias_generators import to_camel

from contracts.auth import Role
from contracts.errors import FieldError, InvalidInput
from contracts.files import AccessLevel
from contracts.operations import OperationKind, OperationStatus
from contracts.users import Theme

_EMPTY = "This must not be empty."
_MESSAGES = {
    "string_too_short": "This is too short: at least {min_length}.",
    "too_short": "This is too short: at least {min_length}.",
    "string_too_long": "This is too long: at most {max_length}.",
    "too_long": "This is too long: at most {max_length}.",
    "greater_than_equal": "This must be {ge:g} or more.",
    "less_than_equal": "This must be {le:g} or less.",
    "finite_number": "This must be a number.",
    "enum": "This must be one of {expected}.",
    "string_unicode": "This is not valid Unicode text.",
}


def _printable(text: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError("This must not contain control characters.")
    return text


def _address(text: str) -> str:
    name, at, host = text.rpartition("@")
    if not (name and at and host) or any(character.isspace() for character in text):
        raise ValueError("This is not an e-mail address.")
    return text


def _six_digits(text: str) -> str:
    code = "".join(text.split())
    if len(code) != 6 or not (code.isascii() and code.isdigit()):
        raise ValueError("A code has six digits.")
    return code


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError(_EMPTY)
    return text


Text = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Id = Text
Key = Text
Email = Annotated[str, Field(max_length=254), AfterValidator(_printable), AfterValidator(_address)]
Password = Annotated[SecretStr, Field(min_length=1, max_length=256)]
NewPassword = Annotated[SecretStr, Field(min_length=8, max_length=256)]
"""Length alone counts (NIST SP 800-63B, 3.1.1.2): eight characters or more, of whatever kind."""
Code = Annotated[str, Field(max_length=20), AfterValidator(_six_digits)]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable), AfterValidator(_not_blank)]
Cursor = Annotated[str, Field(min_length=1, max_length=500)]
First = Annotated[int, Field(ge=1, le=100)]
Seconds = Annotated[float, Field(ge=0, le=30, allow_inf_nan=False)]


class Input(BaseModel):
    """Checked input. What the client left out or sent as null has the default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def check(cls, given: Mapping[str, object], *, at: tuple[str, ...] = ()) -> Self:
        """InvalidInput names each wrong field by its path, which begins with ``at``."""
        values = {name: value for name, value in given.items() if value is not None}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            fields = tuple(
                FieldError(path=(*at, *_path(problem["loc"])), message=_message(problem))
                for problem in error.errors(include_url=False, include_input=False)
            )
            message = fields[0].message if len(fields) == 1 else None
            raise InvalidInput(message, fields=fields) from None  # the original quotes what was sent


class LoginInput(Input):
    email: Email
    password: Password
    tenant_id: Id | None = None
    idempotency_key: Key | None = None
    wait_seconds: Seconds = 10


class SubmitMfaCodeInput(Input):
    operation_id: Id
    code: Code
    wait_seconds: Seconds = 10


class SwitchTenantInput(Input):
    tenant_id: Id
    idempotency_key: Key | None = None
    wait_seconds: Seconds = 10


class RevokeSessionInput(Input):
    session_id: Id


class OnboardUserInput(Input):
    email: Email
    name: Name
    password: NewPassword
    role: Role = Role.MEMBER
    mfa_enabled: bool = False
    idempotency_key: Key | None = None
    wait_seconds: Seconds = 0


class CreateUploadInput(Input):
    """What a name, a type and a checksum are, and how many bytes there may be, the files service says."""

    name: Annotated[str, Field(max_length=1000)]
    content_type: Annotated[str, Field(max_length=1000)]
    size: int
    checksum: Annotated[str, Field(max_length=1000)] | None = None
    access_level: AccessLevel = AccessLevel.PRIVATE


class CompleteUploadInput(Input):
    upload_id: Id
    idempotency_key: Key | None = None
    wait_seconds: Seconds = 0


class ProcessFileInput(Input):
    file_id: Id
    idempotency_key: Key | None = None
    wait_seconds: Seconds = 0


class UpdatePreferencesInput(Input):
    language: Annotated[str, Field(min_length=2, max_length=35), AfterValidator(_printable)] | None = None
    timezone: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_printable)] | None = None
    theme: Theme | None = None
    email_notifications: bool | None = None


class CancelOperationInput(Input):
    id: Id


class RetryOperationInput(Input):
    id: Id
    idempotency_key: Key | None = None
    wait_seconds: Seconds = 0


class PageInput(Input):
    first: First = 20
    after: Cursor | None = None


class FilterInput(Input):
    kinds: Annotated[frozenset[OperationKind], Field(max_length=100)] | None = None
    statuses: Annotated[frozenset[OperationStatus], Field(max_length=100)] | None = None


class IdInput(Input):
    id: Id


class IdsInput(Input):
    ids: Annotated[tuple[Id, ...], Field(max_length=100)]


class FollowInput(Input):
    id: Id
    after: Cursor | None = None


def in_the_input(error: InvalidInput) -> InvalidInput:
    """What a service refuses, by the paths in the input of the mutation that it was given in."""
    fields = tuple(field.model_copy(update={"path": ("input", *field.path)}) for field in error.fields)
    return InvalidInput(fields[0].message if len(fields) == 1 else error.message, fields=fields)


def _path(location: tuple[int | str, ...]) -> tuple[str, ...]:
    return tuple(to_camel(part) if isinstance(part, str) else str(part) for part in location)


def _message(problem: object) -> str:
    assert isinstance(problem, dict)
    facts = problem.get("ctx", {})
    if problem["type"] == "value_error":
        return str(facts["error"])
    if facts.get("min_length") == 1:
        return _EMPTY
    return _MESSAGES.get(problem["type"], "This is not valid.").format(**facts)

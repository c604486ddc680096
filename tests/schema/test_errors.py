"""Every domain error reaches the client with its code; any other error reveals nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from graphql import GraphQLError, located_error
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from contracts.errors import DomainError, ErrorCode, FieldError, WrongTenant, all_errors, to_record
from resolvers.error_translation import domain_error
from schema.errors import translate

SECRET = "the database is at 10.0.0.7"


@pytest.fixture(autouse=True)
def captured_logs() -> Iterator[None]:
    """Capture the log, because tracebacks of expected errors are slow to render."""
    with structlog.testing.capture_logs():
        yield


def translation(error: Exception) -> GraphQLError:
    """Return the client error for this exception of a resolver."""
    (translated,) = translate([located_error(error, path=["login"])], "req-1")
    return translated


def extensions_of_error(error: Exception) -> dict[str, object]:
    """Return the extensions of the client error for this exception."""
    return translation(error).extensions or {}


@pytest.mark.parametrize("kind", list(all_errors()))
def test_translates_every_domain_error_with_code_message_and_extensions(kind: type[DomainError]) -> None:
    fields = (FieldError(path=("input", "email"), message="No."),)
    error = kind("A fact.", fields=fields, attempts_left=2, retry_after=3.5, service="auth")

    translated = translation(error)

    assert translated.message == "A fact."
    assert translated.path == ["login"]
    expected_extensions: dict[str, object] = {
        "code": kind.code.value,
        "attemptsLeft": 2,
        "retryAfter": 3.5,
        "service": "auth",
        "requestId": "req-1",
    }
    if kind.code in (ErrorCode.CONFLICT, ErrorCode.FORBIDDEN):
        assert kind.reason is not None
        expected_extensions["reason"] = kind.reason.value
    if kind is WrongTenant:
        error.current_tenant_id = expected_extensions["currentTenantId"] = "ten_1"
        translated = translation(error)
    if kind.code is ErrorCode.BAD_USER_INPUT:
        expected_extensions["fields"] = [{"path": ["input", "email"], "message": "No."}]
    assert translated.extensions == expected_extensions


@pytest.mark.parametrize("kind", list(all_errors()))
def test_restores_every_domain_error_from_a_temporal_failure_by_name(kind: type[DomainError]) -> None:
    error = kind("A fact.", attempts_left=2, retry_after=3.5, service="auth")
    failure = ApplicationError("A fact.", to_record(error).model_dump(mode="json"), type=kind.__name__)

    restored = domain_error(WorkflowFailureError(cause=failure))

    assert type(restored) is kind
    assert to_record(restored) == to_record(error)


def test_unexpected_error_shows_only_the_request_id() -> None:
    translated = translation(RuntimeError(SECRET))

    assert translated.extensions == {"code": "INTERNAL", "requestId": "req-1"}
    assert SECRET not in str(translated.formatted)


def test_logs_an_unexpected_error_with_the_request_id() -> None:
    error = RuntimeError(SECRET)
    with structlog.testing.capture_logs() as logs:
        translation(error)
    assert [(entry["request_id"], entry["exc_info"], entry["log_level"]) for entry in logs] == [
        ("req-1", error, "error")
    ]


def test_unknown_error_of_a_newer_release_is_an_internal_error() -> None:
    newer = ApplicationError("New.", {"name": "NewerThanUs", "message": "New."}, type="NewerThanUs")
    assert extensions_of_error(WorkflowFailureError(cause=newer))["code"] == "INTERNAL"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (RPCStatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE"),
        (RPCStatusCode.DEADLINE_EXCEEDED, "TIMEOUT"),
        (RPCStatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED"),
        (RPCStatusCode.INVALID_ARGUMENT, "INTERNAL"),
    ],
)
def test_translates_temporal_rpc_errors_by_status(status: RPCStatusCode, code: str) -> None:
    assert extensions_of_error(RPCError(SECRET, status, b""))["code"] == code


def test_result_that_violates_the_schema_is_an_internal_error() -> None:
    assert extensions_of_error(GraphQLError(f"Int cannot represent non-integer value: {SECRET}"))["code"] == "INTERNAL"


def test_does_not_translate_an_error_twice() -> None:
    once = translation(RuntimeError(SECRET))
    assert translate([once], "req-2") == [once]

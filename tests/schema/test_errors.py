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
def quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


def translation(error: Exception) -> GraphQLError:
    (translated,) = translate([located_error(error, path=["login"])], "req-1")
    return translated


def extensions(error: Exception) -> dict[str, object]:
    return translation(error).extensions or {}


@pytest.mark.parametrize("kind", list(all_errors()))
def test_every_domain_error_is_translated_with_its_code_message_and_facts(kind: type[DomainError]) -> None:
    fields = (FieldError(path=("input", "email"), message="No."),)
    error = kind("A fact.", fields=fields, attempts_left=2, retry_after=3.5, service="auth")

    translated = translation(error)

    assert translated.message == "A fact."
    assert translated.path == ["login"]
    facts: dict[str, object] = {
        "code": kind.code.value,
        "attemptsLeft": 2,
        "retryAfter": 3.5,
        "service": "auth",
        "requestId": "req-1",
    }
    if kind.code in (ErrorCode.CONFLICT, ErrorCode.FORBIDDEN):
        assert kind.reason is not None
        facts["reason"] = kind.reason.value
    if kind is WrongTenant:
        error.current_tenant_id = facts["currentTenantId"] = "ten_1"
        translated = translation(error)
    if kind.code is ErrorCode.BAD_USER_INPUT:
        facts["fields"] = [{"path": ["input", "email"], "message": "No."}]
    assert translated.extensions == facts


@pytest.mark.parametrize("kind", list(all_errors()))
def test_every_domain_error_comes_back_from_temporal_by_name(kind: type[DomainError]) -> None:
    error = kind("A fact.", attempts_left=2, retry_after=3.5, service="auth")
    carried = ApplicationError("A fact.", to_record(error).model_dump(mode="json"), type=kind.__name__)

    back = domain_error(WorkflowFailureError(cause=carried))

    assert type(back) is kind
    assert to_record(back) == to_record(error)


def test_trouble_tells_nothing_but_the_request_id() -> None:
    translated = translation(RuntimeError(SECRET))

    assert translated.extensions == {"code": "INTERNAL", "requestId": "req-1"}
    assert SECRET not in str(translated.formatted)


def test_trouble_is_logged_with_the_request_id_and_what_it_was() -> None:
    error = RuntimeError(SECRET)
    with structlog.testing.capture_logs() as logs:
        translation(error)
    assert [(entry["request_id"], entry["exc_info"], entry["log_level"]) for entry in logs] == [
        ("req-1", error, "error")
    ]


def test_an_error_of_a_release_that_is_not_known_here_is_trouble() -> None:
    newer = ApplicationError("New.", {"name": "NewerThanUs", "message": "New."}, type="NewerThanUs")
    assert extensions(WorkflowFailureError(cause=newer))["code"] == "INTERNAL"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (RPCStatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE"),
        (RPCStatusCode.DEADLINE_EXCEEDED, "TIMEOUT"),
        (RPCStatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED"),
        (RPCStatusCode.INVALID_ARGUMENT, "INTERNAL"),
    ],
)
def test_temporal_that_does_not_answer_is_a_service_that_is_down(status: RPCStatusCode, code: str) -> None:
    assert extensions(RPCError(SECRET, status, b""))["code"] == code


def test_a_value_of_ours_that_does_not_fit_the_schema_is_trouble_and_not_bad_input() -> None:
    assert extensions(GraphQLError(f"Int cannot represent non-integer value: {SECRET}"))["code"] == "INTERNAL"


def test_an_error_is_translated_once() -> None:
    once = translation(RuntimeError(SECRET))
    assert translate([once], "req-2") == [once]

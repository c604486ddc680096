"""Translation of execution errors into GraphQL errors for clients, with ``extensions.code`` and ``requestId``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import structlog
from graphql import GraphQLError
from pydantic import JsonValue
from strawberry.exceptions import MissingQueryError
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types import ExecutionContext

from contracts.errors import DomainError, ErrorCode, FieldError
from infrastructure.observability.audit import Refusal, classify_refusal, record_refusal
from resolvers.error_translation import domain_error
from schema.input_errors import literal_errors, variable_errors

log = structlog.get_logger()

_MAX_FIELD_LENGTH = 64
"""Limit of a field's name in the log, which is an alias that the client chose."""
_REQUEST_ERRORS = (MissingQueryError, CannotGetOperationTypeError, InvalidOperationTypeError, RecursionError)


def translate(
    errors: Sequence[GraphQLError], request_id: str, execution: ExecutionContext | None = None
) -> list[GraphQLError]:
    """Return the errors as clients receive them, each with ``extensions.code`` and ``extensions.requestId``.

    An error that already has a code or a request id keeps it: subscribers of a shared stream receive the request id of
    the log. Unexpected errors are logged and replaced by INTERNAL; rejected requests are written to the audit log.

    Args:
        errors: errors of graphql-core, validation or resolvers.
        request_id: the id of the request; empty if there is none.
        execution: the execution, used to find the input fields that an input error concerns.
    """
    translated: list[GraphQLError] = []
    variables = [error for error in errors if _is_about_variables(error)]
    if variables and execution is not None:
        fields = variable_errors(execution)
        message = fields[0].message if len(fields) == 1 else "The variables are not valid."
        translated.append(_input_error(variables[0], fields, message))
    else:
        variables = []
    rest = [error for error in errors if error not in variables]
    _log_refusals(rest, request_id)
    translated.extend(_translate(error, request_id, execution) for error in rest)
    return [_with_request_id(error, request_id) for error in translated]


class DocumentRejected(GraphQLError):
    """Error of a document that exceeds a limit or is not a trusted document."""


def document_rejected(message: str) -> GraphQLError:
    """Return the error for a document that exceeds a limit or is not a trusted document."""
    return DocumentRejected(message, extensions=bad_request("").extensions)


def internal_error(request_id: str) -> GraphQLError:
    """Return the error that replaces an unexpected error: code INTERNAL and the request id, without details."""
    extensions = {"code": ErrorCode.INTERNAL.value, "requestId": request_id}
    return GraphQLError("Something went wrong here.", extensions=extensions)


def bad_request(message: str) -> GraphQLError:
    """Return a BAD_USER_INPUT error for a malformed request, without input fields."""
    return GraphQLError(message, extensions={"code": ErrorCode.BAD_USER_INPUT.value, "fields": []})


def _log_refusals(errors: Sequence[GraphQLError], request_id: str) -> None:
    """Write the refused actions to the audit log: one event with a count for each kind and field."""
    counts: Counter[tuple[Refusal, str | None, str | None]] = Counter()
    for error in errors:
        field = str(error.path[0])[:_MAX_FIELD_LENGTH] if error.path else None
        if isinstance(error, DocumentRejected):
            counts[Refusal.DOCUMENT, None, field] += 1
        elif not (error.extensions and "code" in error.extensions):
            domain = domain_error(_cause(error))
            kind = classify_refusal(domain) if domain is not None else None
            if domain is not None and kind is not None:
                counts[kind, domain.code.value, field] += 1
    for (kind, code, field), count in counts.items():
        record_refusal(kind, count=count, code=code, field=field, request_id=request_id or None)


def _with_request_id(error: GraphQLError, request_id: str) -> GraphQLError:
    extensions = error.extensions or {}
    if not request_id or "requestId" in extensions:
        return error
    return _replace(error, error.message, {**extensions, "requestId": request_id})


def _translate(error: GraphQLError, request_id: str, execution: ExecutionContext | None) -> GraphQLError:
    if error.extensions and "code" in error.extensions:
        return error
    cause = _cause(error)
    if domain := domain_error(cause):
        return _replace(error, domain.message, _extensions(domain))
    if isinstance(cause, RecursionError):
        return _replace(error, "The document is nested too deeply.", bad_request("").extensions)
    if isinstance(cause, _REQUEST_ERRORS) or (cause is None and _is_input_error(error)):
        fields = literal_errors(error, execution)
        return _input_error(error, fields, fields[0].message if fields else error.message)
    log.error("execution_failed", request_id=request_id, path=error.path, exc_info=cause or error)
    internal = internal_error(request_id)
    return _replace(error, internal.message, internal.extensions)


def _cause(error: GraphQLError) -> Exception | None:
    """Return the exception that a resolver raised; None if graphql-core itself created the error."""
    cause: Exception | None = error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    return cause


def _is_input_error(error: GraphQLError) -> bool:
    """Return whether an error of graphql-core concerns the request; otherwise it concerns a result of a resolver."""
    return error.path is None or error.message.startswith("Argument ")


def _is_about_variables(error: GraphQLError) -> bool:
    return (
        error.path is None
        and bool(error.nodes)
        and all(node.kind == "variable_definition" for node in error.nodes or ())
    )


def _extensions(error: DomainError) -> dict[str, JsonValue]:
    extensions: dict[str, JsonValue] = {"code": error.code.value}
    if error.code is ErrorCode.BAD_USER_INPUT:
        extensions["fields"] = _field_errors(error.fields)
    if error.reason is not None:
        extensions["reason"] = error.reason.value
    if error.current_tenant_id is not None:
        extensions["currentTenantId"] = error.current_tenant_id
    if error.attempts_left is not None:
        extensions["attemptsLeft"] = error.attempts_left
    if error.retry_after is not None:
        extensions["retryAfter"] = error.retry_after
    if error.service is not None:
        extensions["service"] = error.service
    return extensions


def _field_errors(fields: Sequence[FieldError]) -> list[JsonValue]:
    return [{"path": list(field.path), "message": field.message} for field in fields]


def _input_error(error: GraphQLError, fields: Sequence[FieldError], message: str) -> GraphQLError:
    return _replace(error, message, {"code": ErrorCode.BAD_USER_INPUT.value, "fields": _field_errors(fields)})


def _replace(error: GraphQLError, message: str, extensions: dict[str, JsonValue] | None) -> GraphQLError:
    return GraphQLError(
        message,
        nodes=error.nodes,
        source=error.source,
        positions=error.positions,
        path=error.path,
        extensions=extensions,
    )

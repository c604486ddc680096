"""From whatever went wrong in an execution to the one error that the client reads, with its code."""

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
from infrastructure.observability.audit import Refusal, refusal_of, refused
from resolvers.error_translation import domain_error
from schema.input_errors import literal_errors, variable_errors

log = structlog.get_logger()

_MAX_FIELD_LENGTH = 64
"""Of the name of a field in the log: it is the client's alias."""
_OF_THE_REQUEST = (MissingQueryError, CannotGetOperationTypeError, InvalidOperationTypeError, RecursionError)


def translate(
    errors: Sequence[GraphQLError], request_id: str, execution: ExecutionContext | None = None
) -> list[GraphQLError]:
    """The errors for the client, each with its code and the id of the request. What is translated already is not told
    anew, and keeps the id that it has: of who shares a stream, the one that the log knows.

    With the execution, bad input is traced to the fields it was given in.
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
    _note_refusals(rest, request_id)
    translated.extend(_translate(error, request_id, execution) for error in rest)
    return [_named(error, request_id) for error in translated]


class RefusedDocument(GraphQLError):
    """The document exceeds a limit, or it is not trusted."""


def refused_document(message: str) -> GraphQLError:
    """Return the error for a document that is refused as a whole."""
    return RefusedDocument(message, extensions=refusal("").extensions)


def internal_error(request_id: str) -> GraphQLError:
    """All that a client learns of trouble."""
    extensions = {"code": ErrorCode.INTERNAL.value, "requestId": request_id}
    return GraphQLError("Something went wrong here.", extensions=extensions)


def refusal(message: str) -> GraphQLError:
    """For a request that is none."""
    return GraphQLError(message, extensions={"code": ErrorCode.BAD_USER_INPUT.value, "fields": []})


def _note_refusals(errors: Sequence[GraphQLError], request_id: str) -> None:
    """Log the refusals among the errors: one line for each kind at each field, with the number of its errors."""
    found: Counter[tuple[Refusal, str | None, str | None]] = Counter()
    for error in errors:
        field = str(error.path[0])[:_MAX_FIELD_LENGTH] if error.path else None
        if isinstance(error, RefusedDocument):
            found[Refusal.DOCUMENT, None, field] += 1
        elif not (error.extensions and "code" in error.extensions):
            answer = domain_error(_cause(error))
            kind = refusal_of(answer) if answer is not None else None
            if answer is not None and kind is not None:
                found[kind, answer.code.value, field] += 1
    for (kind, code, field), count in found.items():
        refused(kind, count=count, code=code, field=field, request_id=request_id or None)


def _named(error: GraphQLError, request_id: str) -> GraphQLError:
    facts = error.extensions or {}
    if not request_id or "requestId" in facts:
        return error
    return _located(error, error.message, {**facts, "requestId": request_id})


def _translate(error: GraphQLError, request_id: str, execution: ExecutionContext | None) -> GraphQLError:
    if error.extensions and "code" in error.extensions:
        return error
    cause = _cause(error)
    if answer := domain_error(cause):
        return _located(error, answer.message, _facts(answer))
    if isinstance(cause, RecursionError):
        return _located(error, "The document is nested too deeply.", refusal("").extensions)
    if isinstance(cause, _OF_THE_REQUEST) or (cause is None and _is_input_error(error)):
        fields = literal_errors(error, execution)
        return _input_error(error, fields, fields[0].message if fields else error.message)
    log.error("an execution failed", request_id=request_id, path=error.path, exc_info=cause or error)
    internal = internal_error(request_id)
    return _located(error, internal.message, internal.extensions)


def _cause(error: GraphQLError) -> Exception | None:
    """What a resolver raised; None where GraphQL itself found fault."""
    cause: Exception | None = error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    return cause


def _is_input_error(error: GraphQLError) -> bool:
    """GraphQL finds fault with a document and its values, but also with what our own resolvers returned."""
    return error.path is None or error.message.startswith("Argument ")


def _is_about_variables(error: GraphQLError) -> bool:
    return (
        error.path is None
        and bool(error.nodes)
        and all(node.kind == "variable_definition" for node in error.nodes or ())
    )


def _facts(error: DomainError) -> dict[str, JsonValue]:
    facts: dict[str, JsonValue] = {"code": error.code.value}
    if error.code is ErrorCode.BAD_USER_INPUT:
        facts["fields"] = _shown(error.fields)
    if error.reason is not None:
        facts["reason"] = error.reason.value
    if error.current_tenant_id is not None:
        facts["currentTenantId"] = error.current_tenant_id
    if error.attempts_left is not None:
        facts["attemptsLeft"] = error.attempts_left
    if error.retry_after is not None:
        facts["retryAfter"] = error.retry_after
    if error.service is not None:
        facts["service"] = error.service
    return facts


def _shown(fields: Sequence[FieldError]) -> list[JsonValue]:
    return [{"path": list(field.path), "message": field.message} for field in fields]


def _input_error(error: GraphQLError, fields: Sequence[FieldError], message: str) -> GraphQLError:
    return _located(error, message, {"code": ErrorCode.BAD_USER_INPUT.value, "fields": _shown(fields)})


def _located(error: GraphQLError, message: str, extensions: dict[str, JsonValue] | None) -> GraphQLError:
    return GraphQLError(
        message,
        nodes=error.nodes,
        source=error.source,
        positions=error.positions,
        path=error.path,
        extensions=extensions,
    )

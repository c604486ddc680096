"""The invariants that must hold after every run. The checks share no code with the product except names and contracts;
they compare database rows, stored objects and workflow states with what clients received.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple
from uuid import UUID

from contracts.operations import OperationKind, StepStatus
from tools.chaos.observations import ExecutedOperation, Observations, Record, is_live

IDEMPOTENCY_TABLES = (
    "auth_idempotency_record",
    "users_idempotency_record",
    "tenants_idempotency_record",
    "files_idempotency_record",
    "workspaces_idempotency_record",
)


class Violation(NamedTuple):
    """A violation; ``invariant`` is the name of the function that found it."""

    invariant: str
    message: str


def find_violations(observations: Observations) -> list[Violation]:
    """Return all violations of all invariants."""
    return [Violation(each.__name__, message) for each in INVARIANTS for message in each(observations)]


def every_acknowledged_operation_has_one_end(observations: Observations) -> Iterator[str]:
    known = {operation.id: operation for operation in observations.operations}
    for history in observations.histories:
        for acknowledged in history.acknowledged:
            operation = known.get(acknowledged.operation_id)
            if operation is None:
                yield f"{acknowledged.operation_id} was acknowledged and does not exist in Temporal"
            elif operation.closed_as is None:
                yield f"{acknowledged.operation_id} was acknowledged and never ended: {operation.state.status}"
    for operation in observations.operations:
        own = operation.state.status
        if operation.closed_as is not None and own.is_closed and own is not operation.closed_as:
            yield f"{operation.id} says {own} and Temporal {operation.closed_as}"
    for history in observations.histories:
        for following in history.followed:
            ends = {state.status for state in following.states if state.is_end}
            operation = known.get(following.operation_id)
            if operation is not None and operation.closed_as is not None and ends - {operation.closed_as.value}:
                yield f"{operation.id} ended as {operation.closed_as} and a client received {sorted(ends)}"


def user_and_session_agree_on_the_tenant(observations: Observations) -> Iterator[str]:
    live = defaultdict(list)
    for session in observations.rows("auth_session"):
        if is_live(session):
            live[session["user_id"]].append(session)
    for user in observations.rows("users_user"):
        sessions = sorted(live[user["id"]], key=lambda session: session["created_at"])
        if (
            sessions
            and sessions[-1]["tenant_id"] != user["tenant_id"]
            and not _signed_in_before_repair(observations, sessions[-1])
        ):
            yield f"{user['id']} works in {user['tenant_id']} and is signed in to {sessions[-1]['tenant_id']}"
    members = {(row["user_id"], row["tenant_id"]) for row in observations.rows("tenants_membership")}
    for user_id, sessions in live.items():
        for session in sessions:
            if (user_id, session["tenant_id"]) not in members:
                yield f"{user_id} is signed in to {session['tenant_id']} and is not a member"


def _signed_in_before_repair(observations: Observations, session: Record) -> bool:
    """Whether the user signed in between the termination of a switch and its repair, to the tenant that the switch had
    set: the repair does not change such a session.
    """
    return any(
        not operation.state.status.is_closed  # a terminated workflow cannot write its final state
        and operation.command["token_hash"] != session["token_hash"]
        and operation.command["user_id"] == session["user_id"]
        and operation.command["to_tenant_id"] == session["tenant_id"]
        and operation.state.started_at < session["created_at"]
        for operation in observations.of_kind(OperationKind.TENANT_SWITCH, completed=False)
    )


def _has_no_effect(operation: ExecutedOperation) -> bool:
    """Whether the operation is a switch to the current tenant, which creates no session."""
    return any(step.name == "create_session" and step.status is StepStatus.SKIPPED for step in operation.state.steps)


def sessions_are_those_of_completed_operations(observations: Observations) -> Iterator[str]:
    for kind in (OperationKind.LOGIN, OperationKind.TENANT_SWITCH):
        for operation in observations.of_kind(kind, completed=True):
            session = observations.sessions.get(operation.command["token_hash"])
            if _has_no_effect(operation):
                if session is not None:
                    yield f"{operation.id} was a switch to the current tenant and has a session"
            elif session is None or not session["is_active"]:
                yield f"{operation.id} completed and its session is not there"
            elif session["tenant_id"] != operation.command.get("to_tenant_id", session["tenant_id"]):
                yield f"{operation.id} completed and its session is in {session['tenant_id']}"
        for operation in observations.of_kind(kind, completed=False):
            if operation.command["token_hash"] in observations.sessions:
                yield f"{operation.id} ended as {operation.closed_as} and left a session"


def sessions_end_by_completed_switches(observations: Observations) -> Iterator[str]:
    for operation in observations.of_kind(OperationKind.TENANT_SWITCH, completed=True):
        old = observations.rows("auth_session", id=operation.command["session_id"])
        if old and is_live(old[0]) and not _has_no_effect(operation):
            yield f"{operation.id} completed and the old session goes on"
    failed = {
        operation.id: operation for operation in observations.of_kind(OperationKind.TENANT_SWITCH, completed=False)
    }
    for session in observations.rows("auth_session"):
        by = (session["ended_by_step"] or "").partition(":")[0]
        if by in failed:
            yield f"{by} ended as {failed[by].closed_as} and ended a session"


def each_login_records_one_sign_in(observations: Observations) -> Iterator[str]:
    sign_ins = Counter(row["session_id"] for row in observations.rows("auth_sign_in"))
    for operation in observations.of_kind(OperationKind.LOGIN, completed=True):
        session = observations.sessions.get(operation.command["token_hash"])
        if session is not None and sign_ins[session["id"]] != 1:
            yield f"{operation.id} completed and its sign-in is recorded {sign_ins[session['id']]} times"
    for orphan in sign_ins.keys() - {session["id"] for session in observations.rows("auth_session")}:
        yield f"a sign-in is recorded for {orphan}, which is not a session"


def effects_match_the_outcome_of_their_operation(observations: Observations) -> Iterator[str]:
    """Completed operations have no undone idempotency record; other closed operations have only undone ones."""
    known = {operation.id: operation for operation in observations.operations if operation.closed_as is not None}
    for effect in (row for table in IDEMPOTENCY_TABLES for row in observations.rows(table)):
        operation = known.get(effect["key"].partition(":")[0])
        if operation is None:
            continue
        if operation.completed and effect["is_undone"]:
            yield f"{operation.id} completed and {effect['key']} was undone"
        if not operation.completed and not effect["is_undone"] and not _stays_after_failure(effect["key"]):
            yield f"{operation.id} ended as {operation.closed_as} and {effect['key']} stands"


def file_metadata_comes_from_completed_operations(observations: Observations) -> Iterator[str]:
    for operation in observations.of_kind(OperationKind.FILE_PROCESSING, completed=False):
        for file in observations.rows("files_file"):
            if (file["metadata_key"] or "").startswith(f"{operation.id}:"):
                yield f"{operation.id} ended as {operation.closed_as} and its metadata is displayed"
    for operation in observations.of_kind(OperationKind.FILE_PROCESSING, completed=True):
        files = observations.rows("files_file", id=operation.command["file_id"])
        if not files or files[0]["metadata_key"] is None:
            yield f"{operation.id} completed and has no metadata"


def current_tenant_is_that_of_the_last_switch(observations: Observations) -> Iterator[str]:
    """Each user runs one switch at a time, so the newest session belongs to the last switch."""
    last: dict[str, tuple[datetime, str]] = {}
    for operation in observations.of_kind(OperationKind.TENANT_SWITCH, completed=True):
        session = observations.sessions.get(operation.command["token_hash"])
        if session is not None:
            user_id, made = operation.command["user_id"], session["created_at"]
            if user_id not in last or made > last[user_id][0]:
                last[user_id] = made, operation.command["to_tenant_id"]
    for user in observations.rows("users_user"):
        if user["id"] in last and last[user["id"]][1] != user["tenant_id"]:
            yield f"{user['id']} switched to {last[user['id']][1]} and works in {user['tenant_id']}"


def ready_files_have_their_object(observations: Observations) -> Iterator[str]:
    for file in observations.rows("files_file"):
        if file["uploaded_at"] is None:
            continue
        stored = observations.objects.get(_object_key(file))
        if stored is None:
            yield f"{file['id']} is ready and has no object"
        elif (stored.size, stored.checksum) != (file["size"], file["checksum"]):
            yield f"{file['id']} is ready and its object is another: {stored}"


def every_object_has_a_record(observations: Observations) -> Iterator[str]:
    keys = {_object_key(file) for file in observations.rows("files_file")}
    uploads = {f"staging/{row['tenant_id']}/{_uuid(row['id'])}" for row in observations.rows("files_upload")}
    for key in observations.objects.keys() - keys - uploads:
        yield f"{key} is stored and no record names it"


def uploads_and_files_are_consistent(observations: Observations) -> Iterator[str]:
    files = {file["id"]: file for file in observations.rows("files_file")}
    for operation in observations.of_kind(OperationKind.FILE_UPLOAD, completed=True):
        made = observations.rows("files_file", upload_id=operation.command["upload_id"])
        if len(made) != 1 or made[0]["uploaded_at"] is None:
            yield f"{operation.id} completed and made {len(made)} files"
    running = {
        operation.command["upload_id"]
        for operation in observations.operations
        if operation.closed_as is None and _uploads(operation)
    }
    for upload in observations.rows("files_upload"):
        if upload["file_id"] is not None and upload["file_id"] not in files:
            yield f"{upload['id']} is taken by {upload['file_id']}, which is no file"
    for file in files.values():
        if file["uploaded_at"] is None and file["upload_id"] not in running:
            yield f"{file['id']} is incomplete and no operation completes it"
    stored_bytes: Counter[str] = Counter()
    for file in files.values():
        stored_bytes[file["tenant_id"]] += file["size"]
    for usage in observations.rows("files_usage"):
        if usage["bytes"] != stored_bytes[usage["tenant_id"]]:
            yield f"{usage['tenant_id']} is charged {usage['bytes']} bytes for {stored_bytes[usage['tenant_id']]}"


def onboarding_is_complete_or_absent(observations: Observations) -> Iterator[str]:
    parts = {
        "users_user": "id",
        "auth_credential": "user_id",
        "tenants_membership": "user_id",
        "users_affiliation": "user_id",
        "workspaces_workspace": "user_id",
    }
    for operation in observations.operations:
        if operation.kind is not OperationKind.USER_ONBOARDING or operation.closed_as is None:
            continue
        user_id = operation.command["new_user_id"]
        found = {table: len(observations.rows(table, **{column: user_id})) for table, column in parts.items()}
        if set(found.values()) != ({1} if operation.completed else {0}):
            yield f"{operation.id} ended as {operation.closed_as} and left {found}"


def one_idempotency_key_has_one_effect(observations: Observations) -> Iterator[str]:
    for history in observations.histories:
        by_key = defaultdict(set)
        for acknowledged in history.acknowledged:
            if acknowledged.key is not None:
                by_key[acknowledged.key].add(acknowledged.operation_id)
        for key, ids in by_key.items():
            if len(ids) > 1:
                yield f"{key} of {history.user_id} started {sorted(ids)}"
    for table, column in (
        ("auth_session", "token_hash"),
        ("files_file", "upload_id"),
        ("users_user", "email"),
        ("workspaces_workspace", "user_id"),
        *((effects, "key") for effects in IDEMPOTENCY_TABLES),
    ):
        for value, count in Counter(row[column] for row in observations.rows(table)).items():
            if count > 1:
                yield f"{table} has {value} {count} times"


def emails_are_recorded_once(observations: Observations) -> Iterator[str]:
    noted = {row["message_id"] for row in observations.rows("notifications_email_delivery")}
    for operation in observations.of_kind(OperationKind.USER_ONBOARDING, completed=True):
        email_ids = observations.rows("notifications_email_delivery", key=f"{operation.id}:send_welcome_email")
        sent = getattr(operation.state.result, "welcome_email_sent", False)
        if sent and len(email_ids) != 1:
            yield f"{operation.id} reports a sent e-mail, and {len(email_ids)} are recorded"
    for missing in noted - set(observations.email_ids):
        yield f"an e-mail {missing} is recorded and was not sent"


def progress_is_monotonic_with_one_final_state(observations: Observations) -> Iterator[str]:
    for history in observations.histories:
        for following in history.followed:
            states, name = following.states, following.operation_id
            for one, next_ in pairwise(states):
                if next_.position <= one.position:
                    yield f"{name} was received at {one.position} and then at {next_.position}"
            ends = [state for state in states if state.is_end]
            if len(ends) > 1 or (ends and states[-1] is not ends[0]):
                yield f"{name} was received as {[state.status for state in states]}"
            if following.complete and not ends:
                yield f"{name} was complete without an end"


def clients_see_only_their_tenants(observations: Observations) -> Iterator[str]:
    owners = {file["id"]: {file["tenant_id"]} for file in observations.rows("files_file")}
    owners |= {upload["id"]: {upload["tenant_id"]} for upload in observations.rows("files_upload")}
    owners |= {row["id"]: {row["tenant_id"]} for row in observations.rows("workspaces_workspace")}
    for row in observations.rows("users_affiliation"):
        owners.setdefault(row["user_id"], set()).add(row["tenant_id"])
    memberships = defaultdict(set)
    for row in observations.rows("tenants_membership"):
        memberships[row["user_id"]].add(row["tenant_id"])
    by_id = {each.id: each for each in observations.operations}
    for history in observations.histories:
        for seen in history.seen:
            if seen.object_id in by_id:
                operation = by_id[seen.object_id]
                if operation.command["user_id"] != history.user_id and seen.tenant_id not in operation.tenant_ids[:1]:
                    yield f"{history.user_id} saw {seen.object_id} from {seen.tenant_id}"
            elif seen.object_id.startswith("ten_"):
                if seen.object_id not in memberships[history.user_id]:
                    yield f"{history.user_id} saw {seen.object_id}"
            elif seen.object_id in owners and seen.tenant_id not in owners[seen.object_id]:
                tenants = sorted(owners[seen.object_id])
                yield f"{history.user_id} saw {seen.object_id} of {tenants} from {seen.tenant_id}"


def tokens_match_their_sessions(observations: Observations) -> Iterator[str]:
    for history in observations.histories:
        for token in history.tokens:
            session = observations.sessions.get(token.token_hash)
            tenant_id = session["tenant_id"] if session is not None and is_live(session) else None
            if token.tenant_id != tenant_id:
                yield f"a token of {history.user_id} opens {token.tenant_id} and its session {tenant_id}"


def the_record_agrees_with_temporal(observations: Observations) -> Iterator[str]:
    recorded = {row["id"]: row for row in observations.rows("operations_record")}
    for operation in observations.operations:
        row, status = recorded.pop(operation.id, None), operation.closed_as or operation.state.status
        if row is None:
            yield f"{operation.id} is not in the record"
            continue
        if row["status"] != status.value:
            yield f"{operation.id} is {status} in Temporal and {row['status']} in the record"
        if row["deleted_at"] is not None:
            yield f"{operation.id} is marked as deleted, and was not deleted"
        if row["user_id"] != operation.command.get("user_id", row["user_id"]):
            yield f"{operation.id} is of {operation.command['user_id']} and in the record of {row['user_id']}"
        if tuple(each for each in (row["tenant_id"], row["other_tenant_id"]) if each) != operation.tenant_ids[:2]:
            recorded_tenants = row["tenant_id"], row["other_tenant_id"]
            yield f"{operation.id} is of {operation.tenant_ids} and in the record of {recorded_tenants}"
    for operation_id in recorded:
        yield f"{operation_id} is in the record and unknown to Temporal"


def the_record_has_the_final_states_of_clients(observations: Observations) -> Iterator[str]:
    statuses = {row["id"]: row["status"] for row in observations.rows("operations_record")}
    for history in observations.histories:
        for following in history.followed:
            ends = {state.status for state in following.states if state.is_end}
            if ends - {statuses.get(following.operation_id)}:
                yield f"{following.operation_id} ended as {ends} for a client, and not in the record"


INVARIANTS: tuple[Callable[[Observations], Iterator[str]], ...] = (
    every_acknowledged_operation_has_one_end,
    user_and_session_agree_on_the_tenant,
    sessions_are_those_of_completed_operations,
    sessions_end_by_completed_switches,
    each_login_records_one_sign_in,
    effects_match_the_outcome_of_their_operation,
    file_metadata_comes_from_completed_operations,
    current_tenant_is_that_of_the_last_switch,
    ready_files_have_their_object,
    every_object_has_a_record,
    uploads_and_files_are_consistent,
    onboarding_is_complete_or_absent,
    one_idempotency_key_has_one_effect,
    emails_are_recorded_once,
    progress_is_monotonic_with_one_final_state,
    clients_see_only_their_tenants,
    tokens_match_their_sessions,
    the_record_agrees_with_temporal,
    the_record_has_the_final_states_of_clients,
)


def _stays_after_failure(key: str) -> bool:
    """Whether the effect must stay after a failure: an accepted MFA code must not be accepted twice."""
    return ":check_mfa:" in key


def _uploads(operation: ExecutedOperation) -> bool:
    return operation.kind is OperationKind.FILE_UPLOAD


def _object_key(file: dict[str, object]) -> str:
    return f"{file['tenant_id']}/{_uuid(str(file['id']))}"


def _uuid(object_id: str) -> UUID:
    return UUID(object_id.rpartition("_")[2])

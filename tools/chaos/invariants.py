"""The independent checker: what must hold after every run, whatever died in it. It shares no code with the product but
names, and reads nothing through it but what clients were told."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple
from uuid import UUID

from contracts.operations import OperationKind, StepStatus
from tools.chaos.observations import Ran, Record, World, is_live

EFFECTS = (
    "auth_idempotency_record",
    "users_idempotency_record",
    "tenants_idempotency_record",
    "files_idempotency_record",
    "workspaces_idempotency_record",
)


class Violation(NamedTuple):
    """``invariant``: the name of the function below that found it."""

    invariant: str
    words: str


def violations(world: World) -> list[Violation]:
    """All that does not hold; nothing where all is well."""
    return [Violation(each.__name__, words) for each in INVARIANTS for words in each(world)]


def every_acknowledged_operation_has_one_end(world: World) -> Iterator[str]:
    known = {ran.id: ran for ran in world.operations}
    for history in world.histories:
        for told in history.acknowledged:
            ran = known.get(told.operation_id)
            if ran is None:
                yield f"{told.operation_id} was acknowledged and Temporal does not know it"
            elif ran.closed_as is None:
                yield f"{told.operation_id} was acknowledged and never ended: {ran.state.status}"
    for ran in world.operations:
        own = ran.state.status
        if ran.closed_as is not None and own.is_closed and own is not ran.closed_as:
            yield f"{ran.id} says {own} and Temporal {ran.closed_as}"
    for history in world.histories:
        for following in history.followed:
            ends = {state.status for state in following.states if state.is_end}
            ran = known.get(following.operation_id)
            if ran is not None and ran.closed_as is not None and ends - {ran.closed_as.value}:
                yield f"{ran.id} ended as {ran.closed_as} and a client was told {sorted(ends)}"


def user_and_session_agree_on_the_tenant(world: World) -> Iterator[str]:
    live = defaultdict(list)
    for session in world.rows("auth_session"):
        if is_live(session):
            live[session["user_id"]].append(session)
    for user in world.rows("users_user"):
        sessions = sorted(live[user["id"]], key=lambda session: session["created_at"])
        if sessions and sessions[-1]["tenant_id"] != user["tenant_id"] and not _was_between(world, sessions[-1]):
            yield f"{user['id']} works in {user['tenant_id']} and is signed in to {sessions[-1]['tenant_id']}"
    members = {(row["user_id"], row["tenant_id"]) for row in world.rows("tenants_membership")}
    for user_id, sessions in live.items():
        for session in sessions:
            if (user_id, session["tenant_id"]) not in members:
                yield f"{user_id} is signed in to {session['tenant_id']} and is no member"


def _was_between(world: World, session: Record) -> bool:
    """Whether the user signed in after a switch was terminated and before its repair: to the tenant that the switch had
    set by then, where the repair leaves the session.
    """
    return any(
        not ran.state.status.is_closed  # by its own word, which a terminated workflow cannot write
        and ran.command["token_hash"] != session["token_hash"]
        and ran.command["user_id"] == session["user_id"]
        and ran.command["to_tenant_id"] == session["tenant_id"]
        and ran.state.started_at < session["created_at"]
        for ran in world.of_kind(OperationKind.TENANT_SWITCH, completed=False)
    )


def _changes_nothing(ran: Ran) -> bool:
    """Whether the operation is a switch to the current tenant, which creates no session."""
    return any(step.name == "create_session" and step.status is StepStatus.SKIPPED for step in ran.state.steps)


def sessions_are_those_of_completed_operations(world: World) -> Iterator[str]:
    for kind in (OperationKind.LOGIN, OperationKind.TENANT_SWITCH):
        for ran in world.of_kind(kind, completed=True):
            session = world.sessions.get(ran.command["token_hash"])
            if _changes_nothing(ran):
                if session is not None:
                    yield f"{ran.id} was a switch to the current tenant and has a session"
            elif session is None or not session["is_active"]:
                yield f"{ran.id} completed and its session is not there"
            elif session["tenant_id"] != ran.command.get("to_tenant_id", session["tenant_id"]):
                yield f"{ran.id} completed and its session is in {session['tenant_id']}"
        for ran in world.of_kind(kind, completed=False):
            if ran.command["token_hash"] in world.sessions:
                yield f"{ran.id} ended as {ran.closed_as} and left a session"


def sessions_end_by_completed_switches(world: World) -> Iterator[str]:
    for ran in world.of_kind(OperationKind.TENANT_SWITCH, completed=True):
        old = world.rows("auth_session", id=ran.command["session_id"])
        if old and is_live(old[0]) and not _changes_nothing(ran):
            yield f"{ran.id} completed and the old session goes on"
    failed = {ran.id: ran for ran in world.of_kind(OperationKind.TENANT_SWITCH, completed=False)}
    for session in world.rows("auth_session"):
        by = (session["ended_by_step"] or "").partition(":")[0]
        if by in failed:
            yield f"{by} ended as {failed[by].closed_as} and ended a session"


def a_sign_in_is_noted_once(world: World) -> Iterator[str]:
    sign_ins = Counter(row["session_id"] for row in world.rows("auth_sign_in"))
    for ran in world.of_kind(OperationKind.LOGIN, completed=True):
        session = world.sessions.get(ran.command["token_hash"])
        if session is not None and sign_ins[session["id"]] != 1:
            yield f"{ran.id} completed and its sign-in is noted {sign_ins[session['id']]} times"
    for orphan in sign_ins.keys() - {session["id"] for session in world.rows("auth_session")}:
        yield f"a sign-in is noted for {orphan}, which is no session"


def a_failed_operation_left_things_as_they_were(world: World) -> Iterator[str]:
    """By the ledger: every effect of a completed operation stands, and every one of another is taken back."""
    known = {ran.id: ran for ran in world.operations if ran.closed_as is not None}
    for effect in (row for table in EFFECTS for row in world.rows(table)):
        ran = known.get(effect["key"].partition(":")[0])
        if ran is None:
            continue
        if ran.completed and effect["is_undone"]:
            yield f"{ran.id} completed and {effect['key']} was undone"
        if not ran.completed and not effect["is_undone"] and not _is_a_look(effect["key"]):
            yield f"{ran.id} ended as {ran.closed_as} and {effect['key']} stands"


def findings_are_those_of_completed_operations(world: World) -> Iterator[str]:
    for ran in world.of_kind(OperationKind.FILE_PROCESSING, completed=False):
        for file in world.rows("files_file"):
            if (file["metadata_key"] or "").startswith(f"{ran.id}:"):
                yield f"{ran.id} ended as {ran.closed_as} and its findings are shown"
    for ran in world.of_kind(OperationKind.FILE_PROCESSING, completed=True):
        files = world.rows("files_file", id=ran.command["file_id"])
        if not files or files[0]["metadata_key"] is None:
            yield f"{ran.id} completed and shows nothing"


def users_work_where_their_last_switch_led(world: World) -> Iterator[str]:
    """A user's switches come one after another here, and the session of each knows when it was made."""
    last: dict[str, tuple[datetime, str]] = {}
    for ran in world.of_kind(OperationKind.TENANT_SWITCH, completed=True):
        session = world.sessions.get(ran.command["token_hash"])
        if session is not None:
            user_id, made = ran.command["user_id"], session["created_at"]
            if user_id not in last or made > last[user_id][0]:
                last[user_id] = made, ran.command["to_tenant_id"]
    for user in world.rows("users_user"):
        if user["id"] in last and last[user["id"]][1] != user["tenant_id"]:
            yield f"{user['id']} switched to {last[user['id']][1]} and works in {user['tenant_id']}"


def a_file_is_ready_only_with_its_object(world: World) -> Iterator[str]:
    for file in world.rows("files_file"):
        if file["uploaded_at"] is None:
            continue
        stored = world.objects.get(_key(file))
        if stored is None:
            yield f"{file['id']} is ready and has no object"
        elif (stored.size, stored.checksum) != (file["size"], file["checksum"]):
            yield f"{file['id']} is ready and its object is another: {stored}"


def no_object_is_without_a_record(world: World) -> Iterator[str]:
    keys = {_key(file) for file in world.rows("files_file")}
    uploads = {f"staging/{row['tenant_id']}/{_uuid(row['id'])}" for row in world.rows("files_upload")}
    for key in world.objects.keys() - keys - uploads:
        yield f"{key} is stored and no record names it"


def an_upload_is_a_file_or_can_be_taken_again(world: World) -> Iterator[str]:
    files = {file["id"]: file for file in world.rows("files_file")}
    for ran in world.of_kind(OperationKind.FILE_UPLOAD, completed=True):
        made = world.rows("files_file", upload_id=ran.command["upload_id"])
        if len(made) != 1 or made[0]["uploaded_at"] is None:
            yield f"{ran.id} completed and made {len(made)} files"
    running = {ran.command["upload_id"] for ran in world.operations if ran.closed_as is None and _uploads(ran)}
    for upload in world.rows("files_upload"):
        if upload["file_id"] is not None and upload["file_id"] not in files:
            yield f"{upload['id']} is taken by {upload['file_id']}, which is no file"
    for file in files.values():
        if file["uploaded_at"] is None and file["upload_id"] not in running:
            yield f"{file['id']} is half made and nobody makes it"
    spoken_for: Counter[str] = Counter()
    for file in files.values():
        spoken_for[file["tenant_id"]] += file["size"]
    for usage in world.rows("files_usage"):
        if usage["bytes"] != spoken_for[usage["tenant_id"]]:
            yield f"{usage['tenant_id']} is charged {usage['bytes']} bytes for {spoken_for[usage['tenant_id']]}"


def onboarding_is_whole_or_absent(world: World) -> Iterator[str]:
    parts = {
        "users_user": "id",
        "auth_credential": "user_id",
        "tenants_membership": "user_id",
        "users_affiliation": "user_id",
        "workspaces_workspace": "user_id",
    }
    for ran in world.operations:
        if ran.kind is not OperationKind.USER_ONBOARDING or ran.closed_as is None:
            continue
        user_id = ran.command["new_user_id"]
        found = {table: len(world.rows(table, **{column: user_id})) for table, column in parts.items()}
        if set(found.values()) != ({1} if ran.completed else {0}):
            yield f"{ran.id} ended as {ran.closed_as} and left {found}"


def one_idempotency_key_has_one_effect(world: World) -> Iterator[str]:
    for history in world.histories:
        by_key = defaultdict(set)
        for told in history.acknowledged:
            if told.key is not None:
                by_key[told.key].add(told.operation_id)
        for key, ids in by_key.items():
            if len(ids) > 1:
                yield f"{key} of {history.user_id} started {sorted(ids)}"
    for table, column in (
        ("auth_session", "token_hash"),
        ("files_file", "upload_id"),
        ("users_user", "email"),
        ("workspaces_workspace", "user_id"),
        *((effects, "key") for effects in EFFECTS),
    ):
        for value, count in Counter(row[column] for row in world.rows(table)).items():
            if count > 1:
                yield f"{table} has {value} {count} times"


def letters_are_noted_once(world: World) -> Iterator[str]:
    noted = {row["message_id"] for row in world.rows("notifications_email_delivery")}
    for ran in world.of_kind(OperationKind.USER_ONBOARDING, completed=True):
        letters = world.rows("notifications_email_delivery", key=f"{ran.id}:send_welcome_email")
        sent = getattr(ran.state.result, "welcome_email_sent", False)
        if sent and len(letters) != 1:
            yield f"{ran.id} says that it sent a letter, and {len(letters)} are noted"
    for missing in noted - set(world.letters):
        yield f"a letter {missing} is noted and nobody has it"


def progress_only_moves_forward_to_one_end(world: World) -> Iterator[str]:
    for history in world.histories:
        for following in history.followed:
            states, name = following.states, following.operation_id
            for one, next_ in pairwise(states):
                if next_.position <= one.position:
                    yield f"{name} was told at {one.position} and then at {next_.position}"
            ends = [state for state in states if state.is_end]
            if len(ends) > 1 or (ends and states[-1] is not ends[0]):
                yield f"{name} was told {[state.status for state in states]}"
            if following.complete and not ends:
                yield f"{name} was complete without an end"


def nobody_saw_another_tenant(world: World) -> Iterator[str]:
    of = {file["id"]: {file["tenant_id"]} for file in world.rows("files_file")}
    of |= {upload["id"]: {upload["tenant_id"]} for upload in world.rows("files_upload")}
    of |= {row["id"]: {row["tenant_id"]} for row in world.rows("workspaces_workspace")}
    for row in world.rows("users_affiliation"):
        of.setdefault(row["user_id"], set()).add(row["tenant_id"])
    belongs = defaultdict(set)
    for row in world.rows("tenants_membership"):
        belongs[row["user_id"]].add(row["tenant_id"])
    ran = {each.id: each for each in world.operations}
    for history in world.histories:
        for seen in history.seen:
            if seen.thing_id in ran:
                operation = ran[seen.thing_id]
                if operation.command["user_id"] != history.user_id and seen.tenant_id not in operation.tenant_ids[:1]:
                    yield f"{history.user_id} saw {seen.thing_id} from {seen.tenant_id}"
            elif seen.thing_id.startswith("ten_"):
                if seen.thing_id not in belongs[history.user_id]:
                    yield f"{history.user_id} saw {seen.thing_id}"
            elif seen.thing_id in of and seen.tenant_id not in of[seen.thing_id]:
                yield f"{history.user_id} saw {seen.thing_id} of {sorted(of[seen.thing_id])} from {seen.tenant_id}"


def a_token_opens_what_its_session_says(world: World) -> Iterator[str]:
    for history in world.histories:
        for token in history.tokens:
            session = world.sessions.get(token.token_hash)
            tenant_id = session["tenant_id"] if session is not None and is_live(session) else None
            if token.tenant_id != tenant_id:
                yield f"a token of {history.user_id} opens {token.tenant_id} and its session {tenant_id}"


def the_record_agrees_with_temporal(world: World) -> Iterator[str]:
    recorded = {row["id"]: row for row in world.rows("operations_record")}
    for ran in world.operations:
        row, status = recorded.pop(ran.id, None), ran.closed_as or ran.state.status
        if row is None:
            yield f"{ran.id} is not in the record"
            continue
        if row["status"] != status.value:
            yield f"{ran.id} is {status} in Temporal and {row['status']} in the record"
        if row["deleted_at"] is not None:
            yield f"{ran.id} is marked as deleted, and was not deleted"
        if row["user_id"] != ran.command.get("user_id", row["user_id"]):
            yield f"{ran.id} is of {ran.command['user_id']} and in the record of {row['user_id']}"
        if tuple(each for each in (row["tenant_id"], row["other_tenant_id"]) if each) != ran.tenant_ids[:2]:
            yield f"{ran.id} is of {ran.tenant_ids} and in the record of {row['tenant_id']}, {row['other_tenant_id']}"
    for operation_id in recorded:
        yield f"{operation_id} is in the record and unknown to Temporal"


def the_record_has_the_ends_that_clients_received(world: World) -> Iterator[str]:
    statuses = {row["id"]: row["status"] for row in world.rows("operations_record")}
    for history in world.histories:
        for following in history.followed:
            ends = {state.status for state in following.states if state.is_end}
            if ends - {statuses.get(following.operation_id)}:
                yield f"{following.operation_id} ended as {ends} for a client, and not in the record"


INVARIANTS: tuple[Callable[[World], Iterator[str]], ...] = (
    every_acknowledged_operation_has_one_end,
    user_and_session_agree_on_the_tenant,
    sessions_are_those_of_completed_operations,
    sessions_end_by_completed_switches,
    a_sign_in_is_noted_once,
    a_failed_operation_left_things_as_they_were,
    findings_are_those_of_completed_operations,
    users_work_where_their_last_switch_led,
    a_file_is_ready_only_with_its_object,
    no_object_is_without_a_record,
    an_upload_is_a_file_or_can_be_taken_again,
    onboarding_is_whole_or_absent,
    one_idempotency_key_has_one_effect,
    letters_are_noted_once,
    progress_only_moves_forward_to_one_end,
    nobody_saw_another_tenant,
    a_token_opens_what_its_session_says,
    the_record_agrees_with_temporal,
    the_record_has_the_ends_that_clients_received,
)


def _is_a_look(key: str) -> bool:
    """A code that was accepted stays used, however the login ends: it must not be accepted twice."""
    return ":check_mfa:" in key


def _uploads(ran: Ran) -> bool:
    return ran.kind is OperationKind.FILE_UPLOAD


def _key(file: dict[str, object]) -> str:
    return f"{file['tenant_id']}/{_uuid(str(file['id']))}"


def _uuid(thing_id: str) -> UUID:
    return UUID(thing_id.rpartition("_")[2])

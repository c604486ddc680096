"""Each invariant reports the violations that are inserted into observations without violations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from contracts.operations import (
    LoggedIn,
    OperationKind,
    OperationResult,
    OperationState,
    OperationStatus,
    StepStatus,
    UserOnboarded,
)
from tools.chaos.invariants import INVARIANTS, find_violations
from tools.chaos.observations import (
    Acknowledged,
    ClientHistory,
    DisplayedId,
    ExecutedOperation,
    FollowedOperation,
    Observations,
    ReceivedState,
    Record,
    StoredObject,
    TokenCheck,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
USER, NEWCOMER, ACME, GLOBEX, STRANGE = "usr_1", "usr_2", "ten_1", "ten_2", "ten_3"
FILE, UPLOAD, SESSION, OLD = (f"{prefix}_{UUID(int=1).hex}" for prefix in ("fil", "upl", "ses", "old"))
OBJECT = f"{GLOBEX}/{UUID(int=1)}"
LETTER = "<letter@adx>"


def ran(kind: OperationKind, command: Record, result: OperationResult | None = None) -> ExecutedOperation:
    state = OperationState.first(kind, NOW).model_copy(update={"status": OperationStatus.COMPLETED, "result": result})
    return ExecutedOperation(
        f"{kind.lower()}-1", kind, OperationStatus.COMPLETED, {"user_id": USER} | command, state, (GLOBEX,)
    )


LOGIN = ran(OperationKind.LOGIN, {"token_hash": "a"}, LoggedIn(user_id=USER, tenant_id=ACME))
SWITCH = ran(OperationKind.TENANT_SWITCH, {"token_hash": "b", "session_id": OLD, "to_tenant_id": GLOBEX})
SENT = ran(OperationKind.FILE_UPLOAD, {"upload_id": UPLOAD})
PROCESSED = ran(OperationKind.FILE_PROCESSING, {"file_id": FILE})
ONBOARDED = ran(
    OperationKind.USER_ONBOARDING,
    {"new_user_id": NEWCOMER},
    UserOnboarded(user_id=NEWCOMER, workspace_id="wsp_1", welcome_email_sent=True),
)


def session(id: str, token_hash: str, tenant_id: str, **others: object) -> Record:
    row = {"id": id, "token_hash": token_hash, "tenant_id": tenant_id, "user_id": USER, "is_active": True}
    return row | {"ended_at": None, "ended_by_step": None, "created_at": NOW} | others


def recorded(operation: ExecutedOperation) -> Record:
    (home, *others) = operation.tenant_ids
    return {"id": operation.id, "status": "COMPLETED", "user_id": USER, "deleted_at": None} | {
        "tenant_id": home,
        "other_tenant_id": "".join(others),
    }


def valid_observations() -> Observations:
    """Return a run in which a user logs in, switches tenants, uploads and processes a file, and onboards a user."""
    following = FollowedOperation(
        SWITCH.id,
        [
            ReceivedState("RUNNING", (1, False)),
            ReceivedState("RUNNING", (2, False)),
            ReceivedState("COMPLETED", (3, True)),
        ],
        True,
    )
    history = ClientHistory(
        USER,
        [*(Acknowledged(each.id, f"key of {each.id}") for each in (LOGIN, SWITCH, SENT, PROCESSED, ONBOARDED))],
        [following],
        [
            DisplayedId(FILE, GLOBEX),
            DisplayedId(SWITCH.id, GLOBEX),
            DisplayedId(ACME, GLOBEX),
            DisplayedId(NEWCOMER, GLOBEX),
        ],
        [TokenCheck("a", None), TokenCheck("b", GLOBEX)],
    )
    keys = [f"{SWITCH.id}:set_tenant", f"{SWITCH.id}:create_session"]
    tables: dict[str, list[Record]] = {
        "users_user": [
            {"id": USER, "email": "a@x", "tenant_id": GLOBEX},
            {"id": NEWCOMER, "email": "b@x", "tenant_id": GLOBEX},
        ],
        "users_affiliation": [
            {"user_id": user, "tenant_id": tenant}
            for user, tenant in ((USER, ACME), (USER, GLOBEX), (NEWCOMER, GLOBEX))
        ],
        "auth_credential": [{"user_id": USER}, {"user_id": NEWCOMER}],
        "tenants_membership": [
            {"user_id": user, "tenant_id": tenant}
            for user, tenant in ((USER, ACME), (USER, GLOBEX), (NEWCOMER, GLOBEX))
        ],
        "workspaces_workspace": [{"id": "wsp_1", "user_id": NEWCOMER, "tenant_id": GLOBEX}],
        "auth_session": [
            session(OLD, "a", ACME, ended_at=NOW, ended_by_step=f"{SWITCH.id}:end_old_session"),
            session(SESSION, "b", GLOBEX, created_at=NOW + timedelta(seconds=1)),
        ],
        "auth_sign_in": [{"session_id": OLD}],
        "files_upload": [{"id": UPLOAD, "tenant_id": GLOBEX, "file_id": FILE}],
        "files_file": [
            {"id": FILE, "tenant_id": GLOBEX, "upload_id": UPLOAD, "size": 3, "checksum": "c"}
            | {"uploaded_at": NOW, "metadata_key": f"{PROCESSED.id}:publish_metadata"}
        ],
        "files_usage": [{"tenant_id": GLOBEX, "bytes": 3}],
        "users_idempotency_record": [{"key": keys[0], "is_undone": False}],
        "auth_idempotency_record": [{"key": keys[1], "is_undone": False}],
        "operations_record": [recorded(each) for each in (LOGIN, SWITCH, SENT, PROCESSED, ONBOARDED)],
        "notifications_email_delivery": [{"key": f"{ONBOARDED.id}:send_welcome_email", "message_id": LETTER}],
    }
    operations = (LOGIN, SWITCH, SENT, PROCESSED, ONBOARDED)
    create_staged_upload = f"staging/{GLOBEX}/{UUID(int=1)}"
    return Observations(
        (history,),
        operations,
        tables,
        {OBJECT: StoredObject(3, "c"), create_staged_upload: StoredObject(3, "c")},
        (LETTER,),
    )


Change = Callable[[Observations], Observations | None]


def changed(table: str, index: int = 0, **changes: object) -> Change:
    return lambda observations: observations.tables[table][index].update(changes)


def added(table: str, **row: object) -> Change:
    return lambda observations: observations.tables[table].append(dict(row))


def gone(table: str, index: int = 0) -> Change:
    return lambda observations: observations.tables[table].__delitem__(index)


def again(table: str) -> Change:
    return lambda observations: observations.tables[table].append(dict(observations.tables[table][0]))


def ended(operation: ExecutedOperation, closed_as: OperationStatus | None) -> Change:
    return lambda observations: replace(
        observations,
        operations=tuple(
            replace(each, closed_as=closed_as) if each is operation else each for each in observations.operations
        ),
    )


def received(*states: ReceivedState) -> Change:
    return lambda observations: observations.histories[0].followed.append(
        FollowedOperation(SENT.id, list(states), True)
    )


def shown(object_id: str, tenant_id: str) -> Change:
    return lambda observations: observations.histories[0].seen.append(DisplayedId(object_id, tenant_id))


def changes_nothing(operation: ExecutedOperation) -> Change:
    """Let the switch be one to the current tenant, which skips the step that creates a session."""
    steps = tuple(
        step.model_copy(update={"status": StepStatus.SKIPPED}) if step.name == "create_session" else step
        for step in operation.state.steps
    )
    skipped = replace(operation, state=operation.state.model_copy(update={"steps": steps}))
    return lambda observations: replace(
        observations, operations=tuple(skipped if each is operation else each for each in observations.operations)
    )


FAILED = OperationStatus.FAILED
VIOLATIONS: list[tuple[str, str, Change]] = [
    (
        "every_acknowledged",
        "is lost",
        lambda observations: replace(observations, operations=observations.operations[1:]),
    ),
    ("every_acknowledged", "never ends", ended(SENT, None)),
    ("every_acknowledged", "ends twice", ended(LOGIN, FAILED)),
    ("every_acknowledged", "receives another end", received(ReceivedState("FAILED", (1, True)))),
    ("user_and_session", "disagree", changed("users_user", tenant_id=ACME)),
    ("user_and_session", "no member", gone("tenants_membership", 1)),
    ("sessions_are_those", "is missing", gone("auth_session", 1)),
    ("sessions_are_those", "is that of a switch that changes nothing", changes_nothing(SWITCH)),
    ("sessions_are_those", "opens nothing", changed("auth_session", 1, is_active=False)),
    ("sessions_are_those", "is left behind", ended(SWITCH, FAILED)),
    ("sessions_end_by", "old one lives", changed("auth_session", 0, ended_at=None)),
    ("sessions_end_by", "by a failed one", ended(SWITCH, FAILED)),
    ("sessions_are_those", "elsewhere", changed("auth_session", 1, tenant_id=ACME)),
    ("each_login", "no sign-in", gone("auth_sign_in")),
    ("each_login", "two sign-ins", again("auth_sign_in")),
    ("each_login", "sign-in of nothing", added("auth_sign_in", session_id="ses_9")),
    ("effects_match", "effect stands", ended(SWITCH, FAILED)),
    ("effects_match", "effect undone", changed("users_idempotency_record", is_undone=True)),
    ("file_metadata", "metadata shown", ended(PROCESSED, FAILED)),
    ("file_metadata", "metadata missing", changed("files_file", metadata_key=None)),
    ("current_tenant", "elsewhere", changed("users_user", tenant_id=ACME)),
    ("ready_files", "no object", lambda observations: replace(observations, objects={})),
    (
        "ready_files",
        "too short",
        lambda observations: replace(observations, objects={OBJECT: StoredObject(2, "c")}),
    ),
    (
        "ready_files",
        "other bytes",
        lambda observations: replace(observations, objects={OBJECT: StoredObject(3, "d")}),
    ),
    ("every_object", "orphan", lambda observations: observations.objects.update({f"{ACME}/x": StoredObject(1, "")})),
    (
        "every_object",
        "staged orphan",
        lambda observations: observations.objects.update({f"staging/{ACME}/x": StoredObject(1, "")}),
    ),
    ("uploads_and_files", "no file", gone("files_file")),
    ("uploads_and_files", "half made", changed("files_file", uploaded_at=None)),
    ("uploads_and_files", "taken by nothing", changed("files_upload", file_id="fil_9")),
    ("uploads_and_files", "charged wrongly", changed("files_usage", bytes=4)),
    ("onboarding_is", "no credential", gone("auth_credential", 1)),
    ("onboarding_is", "no workspace", gone("workspaces_workspace")),
    ("onboarding_is", "left behind", ended(ONBOARDED, FAILED)),
    ("one_idempotency_key", "two sessions", again("auth_session")),
    ("one_idempotency_key", "two effects", again("users_idempotency_record")),
    ("emails_are", "e-mail not sent", lambda observations: replace(observations, email_ids=())),
    ("emails_are", "e-mail not recorded", gone("notifications_email_delivery")),
    (
        "one_idempotency_key",
        "two operations",
        lambda observations: observations.histories[0].acknowledged.append(
            Acknowledged("other-1", f"key of {SWITCH.id}")
        ),
    ),
    ("progress_is", "goes back", received(ReceivedState("RUNNING", (2, False)), ReceivedState("COMPLETED", (1, True)))),
    (
        "progress_is",
        "stands still",
        received(ReceivedState("RUNNING", (2, False)), ReceivedState("RUNNING", (2, False))),
    ),
    ("progress_is", "two ends", received(ReceivedState("COMPLETED", (2, True)), ReceivedState("COMPLETED", (3, True)))),
    ("progress_is", "no end", received(ReceivedState("RUNNING", (2, False)))),
    ("clients_see", "file", shown(FILE, ACME)),
    ("clients_see", "tenant", shown(STRANGE, ACME)),
    ("clients_see", "colleague", shown(NEWCOMER, ACME)),
    (
        "clients_see",
        "operation",
        lambda observations: observations.histories.__getitem__(0).__setattr__("user_id", "usr_9"),
    ),
    ("tokens_match", "ended one", lambda observations: observations.histories[0].tokens.append(TokenCheck("a", ACME))),
    (
        "tokens_match",
        "live one not",
        lambda observations: observations.histories[0].tokens.append(TokenCheck("b", None)),
    ),
    ("tokens_match", "elsewhere", lambda observations: observations.histories[0].tokens.append(TokenCheck("b", ACME))),
    ("the_record_agrees", "lacks an operation", gone("operations_record", 1)),
    ("the_record_agrees", "has an old status", changed("operations_record", 1, status="RUNNING")),
    ("the_record_agrees", "has one of another user", changed("operations_record", 1, user_id=NEWCOMER)),
    ("the_record_agrees", "has one of another tenant", changed("operations_record", 1, tenant_id=STRANGE)),
    ("the_record_agrees", "marks one as deleted", changed("operations_record", 1, deleted_at=1)),
    ("the_record_agrees", "has one that Temporal does not know", added("operations_record", id="x", status="RUNNING")),
    ("the_record_has", "has another end than a client received", received(ReceivedState("FAILED", (1, True)))),
]


def test_reports_nothing_without_violations() -> None:
    assert find_violations(valid_observations()) == []


def test_a_switch_to_the_current_tenant_keeps_its_session_and_creates_none() -> None:
    observations = changes_nothing(SWITCH)(valid_observations())
    assert observations is not None
    (old, _) = observations.tables["auth_session"]
    old |= {"ended_at": None, "ended_by_step": None}
    del observations.tables["auth_session"][1]
    assert [each for each in find_violations(observations) if each.invariant.startswith("sessions_")] == []


@pytest.mark.parametrize("is_terminated", [True, False])
def test_a_sign_in_before_a_repair_may_lead_to_the_tenant_of_the_switch(
    is_terminated: bool,
) -> None:
    observations = valid_observations()
    status = OperationStatus.RUNNING if is_terminated else FAILED
    switch = replace(SWITCH, closed_as=FAILED, state=SWITCH.state.model_copy(update={"status": status}))
    observations.tables["users_user"][0]["tenant_id"] = ACME  # the state after the repair
    observations.tables["auth_session"][1]["token_hash"] = "of the sign-in"
    found = find_violations(replace(observations, operations=(LOGIN, switch)))
    assert any(each.invariant.startswith("user_and_session") for each in found) is not is_terminated


@pytest.mark.parametrize(
    ("invariant", "what", "change"), VIOLATIONS, ids=[f"{name}: {what}" for name, what, _ in VIOLATIONS]
)
def test_reports_the_violation(invariant: str, what: str, change: Change) -> None:
    observations = valid_observations()
    observations = change(observations) or observations
    assert any(found.invariant.startswith(invariant) for found in find_violations(observations)), what


def test_every_invariant_has_a_violation() -> None:
    tested = {name for name, _, _ in VIOLATIONS}
    assert [each.__name__ for each in INVARIANTS if not any(each.__name__.startswith(name) for name in tested)] == []

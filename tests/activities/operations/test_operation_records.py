"""The record of operations: which write wins, who may list what, and pages that do not shift."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from starlette.applications import Starlette

from activities.http import MAX_BODY_BYTES
from activities.operations import endpoints, models
from activities.operations.service import OperationsService
from contracts.auth import PERMISSIONS, Role
from contracts.base import new_id
from contracts.callers import Caller
from contracts.errors import NotSignedIn, OperationNotFound, PermissionDenied
from contracts.operation_records import (
    MAX_BATCH,
    OperationOrder,
    OperationRecord,
    OperationRecords,
    RecordFilter,
    RecordPage,
    RecordPageRequest,
    Subject,
)
from contracts.operations import Operation, OperationKind, OperationState, OperationStatus, Position, operation_id
from infrastructure.signing.secret_keys import SecretKeys
from infrastructure.signing.service_tokens import ServiceTokenSigner

ACME, GLOBEX = new_id("ten"), new_id("ten")
ADA, GRACE = new_id("usr"), new_id("usr")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def service() -> OperationsService:
    return OperationsService(lambda: NOON)


def caller(user_id: str = ADA, role: Role = Role.MEMBER, *, tenant_id: str = ACME) -> Caller:
    return Caller(user_id=user_id, tenant_id=tenant_id, permissions=tuple(PERMISSIONS[role]))


def record(
    kind: OperationKind = OperationKind.USER_ONBOARDING,
    *,
    id: str | None = None,
    user_id: str = ADA,
    tenants: tuple[str, ...] = (ACME,),
    status: OperationStatus = OperationStatus.RUNNING,
    revision: int = 1,
    started: float = 0,
    lasted: float | None = None,
    subject: Subject | None = None,
) -> OperationRecord:
    """A record whose operation started so many seconds after noon, and lasted so many seconds if it has closed."""
    started_at = NOON + timedelta(seconds=started)
    state = OperationState.first(kind, started_at, started_by=user_id)
    operation = Operation(
        id=id or operation_id(b"", kind, tenant_id=ACME, user_id=user_id, key=None),
        kind=kind,
        user_id=user_id,
        tenant_ids=tenants,
        state=state.model_copy(update={"status": status, "revision": revision}),
        closed_at=None if lasted is None else started_at + timedelta(seconds=lasted),
        position=Position(revision=revision, closed=lasted is not None),
    )
    return OperationRecord(operation=operation, subject=subject)


async def page(
    service: OperationsService, request: RecordPageRequest | None = None, who: Caller | None = None
) -> RecordPage:
    return await service.list_operations(who or caller(), request or RecordPageRequest())


def ids(page: RecordPage) -> list[str]:
    return [each.operation.id for each in page.records]


async def test_stores_what_was_written_and_returns_it_whole(any_database: None, service: OperationsService) -> None:
    written = record(subject=Subject(label="Zoë@Example.COM", target_id=ADA))

    await service.write([written])

    assert (await page(service)).records == (written,)
    assert (await service.look_up([written.operation.id, "onboarding-x"])).records == (written,)


async def test_newest_version_is_kept_in_any_order_of_writes(any_database: None, service: OperationsService) -> None:
    first = record(revision=1, subject=Subject(label="zoe@example.com"))
    last = record(id=first.operation.id, revision=9, status=OperationStatus.COMPLETED, lasted=2)

    for writes in ([first], [last], [first], [last, first]):
        await service.write(writes)

    (stored,) = (await page(service)).records
    assert stored.operation == last.operation
    assert stored.subject == first.subject


async def test_subject_of_a_late_start_is_added_to_a_newer_state(
    any_database: None, service: OperationsService
) -> None:
    newer = record(revision=5)
    await service.write([newer])

    subject = Subject(label="report.pdf", is_private=True)
    await service.write([record(id=newer.operation.id, revision=0, subject=subject)])

    (stored,) = (await page(service)).records
    assert stored.operation == newer.operation
    assert stored.subject == subject


async def test_concurrent_writes_of_one_operation_leave_the_newest(
    any_database: None, service: OperationsService
) -> None:
    first = record(revision=0)
    states = [record(id=first.operation.id, revision=revision) for revision in range(40)]
    random.Random(7).shuffle(states)

    await asyncio.gather(*(service.write([state]) for state in states))

    (stored,) = (await page(service)).records
    assert stored.operation.state.revision == 39


async def test_operation_that_runs_again_after_its_close_is_open_again(
    any_database: None, service: OperationsService
) -> None:
    closed = record(revision=3, status=OperationStatus.FAILED, lasted=5)
    await service.write([closed])

    await service.write([record(id=closed.operation.id, revision=4)])

    (stored,) = (await page(service)).records
    assert stored.operation.closed_at is None
    row = await models.OperationRecord.get(id=closed.operation.id)
    assert (row.closed_at, row.duration_ms, row.status) == (0, -1, "RUNNING")


async def test_lists_own_operations_of_the_current_tenant_only(any_database: None, service: OperationsService) -> None:
    mine, elsewhere = record(), record(tenants=(GLOBEX,))
    switch = record(OperationKind.TENANT_SWITCH, tenants=(GLOBEX, ACME), started=1)
    unidentified = record(OperationKind.LOGIN, tenants=())
    await service.write([mine, elsewhere, switch, unidentified, record(user_id=GRACE)])

    assert ids(await page(service)) == [switch.operation.id, mine.operation.id]
    assert ids(await page(service, who=caller(tenant_id=GLOBEX))) == [switch.operation.id, elsewhere.operation.id]


async def test_lists_operations_of_all_members_to_administrators_only(
    any_database: None, service: OperationsService
) -> None:
    mine, hers = record(), record(user_id=GRACE, started=1)
    from_elsewhere = record(OperationKind.TENANT_SWITCH, user_id=GRACE, tenants=(GLOBEX, ACME))
    await service.write([mine, hers, from_elsewhere])
    everything = RecordPageRequest(of_all_members=True)

    assert ids(await page(service, everything, caller(role=Role.ADMIN))) == [hers.operation.id, mine.operation.id]
    with pytest.raises(PermissionDenied):
        await page(service, everything)
    with pytest.raises(NotSignedIn):
        await page(service, who=Caller())


@pytest.mark.parametrize("order", list(OperationOrder))
async def test_pages_contain_each_operation_once_and_in_order(
    order: OperationOrder, any_database: None, service: OperationsService
) -> None:
    chance = random.Random(11)
    written = [
        record(started=chance.randrange(5), lasted=chance.choice([None, 1, 2.5]), revision=number)
        for number in range(23)
    ]
    await service.write(written)

    seen: list[OperationRecord] = []
    request = RecordPageRequest(first=5, order=order)
    while True:
        result = await page(service, request)
        seen += result.records
        if not result.has_next:
            break
        request = request.model_copy(update={"after": result.positions[-1]})

    def key(each: OperationRecord) -> tuple[float, str]:
        operation = each.operation
        duration = (operation.closed_at - operation.started_at).total_seconds() if operation.closed_at else -1
        moment = operation.started_at.timestamp()
        closed = operation.closed_at.timestamp() if operation.closed_at else 0
        value = {"CLOSED_AT_DESC": closed, "DURATION_DESC": duration}.get(order.value, moment)
        return value, operation.id

    assert seen == sorted(written, key=key, reverse=order is not OperationOrder.STARTED_AT_ASC)


async def test_operations_added_between_two_pages_do_not_shift_the_second(
    any_database: None, service: OperationsService
) -> None:
    written = [record(started=second) for second in range(6)]
    await service.write(written)
    first = await page(service, RecordPageRequest(first=3))

    await service.write([record(started=99)])
    second = await page(service, RecordPageRequest(first=3, after=first.positions[-1]))

    assert ids(first) + ids(second) == [each.operation.id for each in reversed(written)]
    assert not second.has_next


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        (RecordFilter(), "abcd"),
        (RecordFilter(kinds=(OperationKind.FILE_UPLOAD,)), "c"),
        (RecordFilter(kinds=()), ""),
        (RecordFilter(except_kinds=(OperationKind.FILE_UPLOAD,)), "abd"),
        (RecordFilter(except_kinds=()), "abcd"),
        (RecordFilter(statuses=(OperationStatus.COMPLETED, OperationStatus.FAILED)), "bd"),
        (RecordFilter(started_after=NOON + timedelta(seconds=2)), "cd"),
        (RecordFilter(started_before=NOON + timedelta(seconds=2)), "ab"),
        (RecordFilter(target_ids=(GRACE,)), "d"),
        (RecordFilter(target_ids=()), ""),
        (RecordFilter(search="STRASSE"), "b"),
        (RecordFilter(search="straße"), "b"),
        (RecordFilter(search="100%_"), "c"),
        (RecordFilter(search="%"), "c"),
        (RecordFilter(search="!"), "d"),
        (RecordFilter(search="nothing like it"), ""),
        (RecordFilter(search="e", statuses=(OperationStatus.COMPLETED,)), "b"),
        (RecordFilter(started_by_ids=(GRACE,)), "abcd"),
    ],
)
async def test_filter_selects_matching_operations(
    filter: RecordFilter, expected: str, any_database: None, service: OperationsService
) -> None:
    written = {
        "a": record(started=0),
        "b": record(started=1, status=OperationStatus.COMPLETED, lasted=1, subject=Subject(label="u@Straße.example")),
        "c": record(OperationKind.FILE_UPLOAD, started=2, subject=Subject(label="100%_Sure.pdf", is_private=True)),
        "d": record(started=3, status=OperationStatus.FAILED, lasted=1, subject=Subject(label="!", target_id=GRACE)),
    }
    await service.write(list(written.values()))
    names = {each.operation.id: name for name, each in written.items()}

    found = await page(service, RecordPageRequest(filter=filter, with_total=True))

    assert "".join(sorted(names[id] for id in ids(found))) == expected
    assert found.total == len(expected)


async def test_private_subject_of_another_user_matches_no_search(
    any_database: None, service: OperationsService
) -> None:
    private = record(user_id=GRACE, subject=Subject(label="salary.pdf", target_id="fil_1", is_private=True))
    shared = record(user_id=GRACE, subject=Subject(label="salary-bands.pdf", target_id="fil_2"))
    own = record(subject=Subject(label="my-salary.pdf", is_private=True))
    await service.write([private, shared, own])
    administrator = caller(role=Role.ADMIN)

    def request(filter: RecordFilter) -> RecordPageRequest:
        return RecordPageRequest(of_all_members=True, filter=filter)

    found = await page(service, request(RecordFilter(search="salary")), administrator)
    targeted = await page(service, request(RecordFilter(target_ids=("fil_1", "fil_2"))), administrator)
    everything = await page(service, request(RecordFilter()), administrator)

    assert set(ids(found)) == {shared.operation.id, own.operation.id}
    assert ids(targeted) == [shared.operation.id]
    assert len(everything.records) == 3


async def test_started_by_selects_members_for_administrators(any_database: None, service: OperationsService) -> None:
    mine, hers = record(), record(user_id=GRACE)
    await service.write([mine, hers])
    request = RecordPageRequest(of_all_members=True, filter=RecordFilter(started_by_ids=(GRACE,)))

    assert ids(await page(service, request, caller(role=Role.ADMIN))) == [hers.operation.id]


async def test_deleted_operation_is_gone_and_stays_gone(any_database: None, service: OperationsService) -> None:
    written = record(subject=Subject(label="zoe@example.com"))
    await service.write([written])

    await service.delete(written.operation.id)
    await service.write([record(id=written.operation.id, revision=9, subject=Subject(label="zoe@example.com"))])

    assert ids(await page(service)) == []
    found = await service.look_up([written.operation.id])
    assert (found.records, found.deleted) == ((), (written.operation.id,))
    row = await models.OperationRecord.get(id=written.operation.id)
    assert (row.subject, row.search_key) == (None, None)
    assert await models.OperationStateRow.all().count() == 0
    with pytest.raises(OperationNotFound):
        await service.delete("user-onboarding-unknown")


async def test_retention_removes_operations_that_closed_before_it(
    any_database: None, service: OperationsService
) -> None:
    day = 24 * 3600.0
    old = record(started=-400 * day, lasted=1)
    recent = record(started=-300 * day, lasted=1)
    still_open = record(started=-400 * day)
    await service.write([old, recent, still_open])

    assert await service.remove_older_than(timedelta(days=365)) == 1
    assert set(ids(await page(service))) == {recent.operation.id, still_open.operation.id}
    assert await models.OperationStateRow.all().count() == 2


async def test_empty_batch_and_empty_page_are_harmless(any_database: None, service: OperationsService) -> None:
    await service.write([])

    assert await page(service, RecordPageRequest(first=0, with_total=True)) == RecordPage(
        records=(), positions=(), has_next=False, total=0
    )


async def test_counts_open_operations_by_kind_that_were_started_before_a_moment(
    any_database: None, service: OperationsService
) -> None:
    login = record(OperationKind.LOGIN, started=-10)
    deleted = record(started=-10)
    await service.write(
        [
            login,
            deleted,
            record(started=-20),
            record(started=-10, user_id=GRACE),
            record(started=0),
            record(started=-10, lasted=1),
        ]
    )
    await service.delete(deleted.operation.id)

    assert await service.count_open(NOON) == {"LOGIN": 1, "USER_ONBOARDING": 2}


async def test_largest_batch_of_states_fits_into_one_call(any_database: None, service: OperationsService) -> None:
    signer = ServiceTokenSigner("operations", SecretKeys(b"a key of thirty-two bytes, or so."))
    app = Starlette(routes=endpoints.routes(service, signer))
    label = "\N{BEAMED EIGHTH NOTES}" * 320
    batch = [record(OperationKind.TENANT_SWITCH, subject=Subject(label=label)) for _ in range(MAX_BATCH)]
    body = OperationRecords(records=tuple(batch)).model_dump_json()
    assert len(body) > MAX_BODY_BYTES
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://record") as http:
        answer = await http.post(
            "/operations/write", content=body, headers={"authorization": f"Bearer {signer.sign(Caller())}"}
        )
    assert answer.status_code == 200, answer.text
    assert await models.OperationRecord.all().count() == MAX_BATCH

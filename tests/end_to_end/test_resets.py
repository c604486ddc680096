"""After `temporal workflow reset` the new run continues, its subscribers see its end, and no repair undoes it.

Each test is also the command that replays the attack: `python -m pytest tests/end_to_end/test_resets.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import cast

import pytest
from pyotp.totp import TOTP
from temporalio.client import Client as Temporal
from temporalio.client import WorkflowExecutionStatus

from tests.end_to_end.client import Client, Json
from tests.end_to_end.files import announce, complete, keep, process, send
from tests.end_to_end.test_contract_onboarding import LOGIN, PASSWORD, SUBMIT, onboarding_input
from tests.servers import reset_workflow
from tests.stack import Stack, start_separate_stack
from worker.demo import TOTP_SECRET

REPAIR_DEADLINE_SECONDS = 3
TWO_REPAIR_INTERVALS_SECONDS = 3.0
"""The reconciler searches for operations to repair three times per REPAIR_DEADLINE_SECONDS."""
START = "mutation ($input: OnboardUserInput!) { onboardUser(input: $input) { operation { id } } }"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack without a mail server: the welcome e-mail is retried for some seconds, then skipped."""
    folder = tmp_path_factory.mktemp("resets")
    with start_separate_stack(
        folder, REPAIR_DEADLINE_SECONDS=str(REPAIR_DEADLINE_SECONDS), SMTP_URL="smtp://127.0.0.1:1"
    ) as stack:
        yield stack


@pytest.fixture
async def temporal(stack: Stack) -> Temporal:
    return await Temporal.connect(stack.temporal_address)


@pytest.fixture
async def ada(stack: Stack) -> Client:
    client = Client(stack)
    await client.log_in("ada@example.com")
    await client.work_in("Acme")
    return client


async def start_onboarding(client: Client, person: Json) -> str:
    return cast("str", (await client.ask(START, input=person | {"waitSeconds": 0}))["onboardUser"]["operation"]["id"])


class EndedBefore(Exception):
    """The operation ended before it was seen at the step."""


async def until_step(states: AsyncIterator[Json], name: str) -> Json:
    async with asyncio.timeout(60):
        async for state in states:
            if state["progress"]["currentStep"] == name:
                return state
    raise EndedBefore(name)


async def upload_until_step(client: Client, name: str) -> str:
    """Return the id of an upload that has come to the step; on a busy machine the first may end unobserved."""
    for _ in range(10):
        target = await announce(client, b"some text\n")
        assert (await send(target, b"some text\n")).status_code == 200
        upload = (await complete(client, target["id"], waitSeconds=0))["id"]
        async with client.follow(upload) as states:
            with suppress(EndedBefore):
                await until_step(states, name)
                return cast("str", upload)
    raise EndedBefore(name)


async def can_log_in(stack: Stack, person: Json) -> bool:
    answer = await Client(stack).ask(LOGIN, email=person["email"], password=PASSWORD)
    return bool(answer["login"]["operation"]["status"] == "COMPLETED")


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - the condition is in another process
            await asyncio.sleep(0.2)


async def repairs(temporal: Temporal, operation_id: str) -> list[WorkflowExecutionStatus | None]:
    rows = temporal.list_workflows("WorkflowType = 'RepairOperation'")
    return [row.status async for row in rows if operation_id in row.id]


async def closed_after(temporal: Temporal, operation_id: str, run_id: str) -> WorkflowExecutionStatus | None:
    """Wait until the run after this one has closed; return its status."""
    async with asyncio.timeout(60):
        while True:
            described = await temporal.get_workflow_handle(operation_id).describe()
            if described.run_id != run_id and described.close_time is not None:
                return described.status
            await asyncio.sleep(0.2)


@pytest.mark.parametrize("to", ["FirstWorkflowTask", "LastWorkflowTask"])
async def test_an_onboarding_that_was_reset_keeps_its_user(
    stack: Stack, ada: Client, temporal: Temporal, to: str
) -> None:
    person = onboarding_input()
    operation_id = await start_onboarding(ada, person)
    async with ada.follow(operation_id) as states:
        await until_step(states, "send_welcome_email")
        await reset_workflow(stack.temporal_address, operation_id, to=to)
        statuses = [state["status"] async for state in states]
    assert statuses[-1] == "COMPLETED"
    assert set(statuses[:-1]) <= {"RUNNING"}

    assert await can_log_in(stack, person)
    await asyncio.sleep(TWO_REPAIR_INTERVALS_SECONDS)
    assert await can_log_in(stack, person)
    assert await repairs(temporal, operation_id) == []


async def test_a_login_that_was_reset_is_followed_and_completed_with_its_code(stack: Stack) -> None:
    alan = Client(stack)
    answer = await alan.ask(
        """mutation { login(input: {email: "alan@example.com", password: "adx-demo-password", waitSeconds: 20}) {
          sessionToken operation { id status } } }"""
    )
    login, alan.token = answer["login"]["operation"], answer["login"]["sessionToken"]
    assert login["status"] == "WAITING"
    async with alan.follow(login["id"]) as states:
        await anext(states)
        await reset_workflow(stack.temporal_address, login["id"])
        async with asyncio.timeout(30):
            while (state := await anext(states))["status"] != "WAITING":
                assert state["status"] == "RUNNING"
        submitted = (await alan.ask(SUBMIT, id=login["id"], code=TOTP(TOTP_SECRET).now()))["submitMfaCode"]
        statuses = [state["status"] async for state in states]
    assert statuses[-1] == "COMPLETED"
    assert set(statuses[:-1]) <= {"RUNNING", "WAITING"}
    assert submitted["operation"]["status"] == "COMPLETED"
    assert (await alan.ask("{ viewer { user { email } } }"))["viewer"] == {"user": {"email": "alan@example.com"}}


async def test_a_completed_operation_that_is_reset_to_its_beginning_is_not_undone(
    stack: Stack, ada: Client, temporal: Temporal
) -> None:
    file = await keep(ada, b"some text\n")
    processing = (await process(ada, file["id"]))["id"]
    (upload,) = [
        operation["id"]
        for operation in (await ada.ask("{ viewer { operations(first: 5) { nodes { id kind } } } }"))["viewer"][
            "operations"
        ]["nodes"]
        if operation["kind"] == "FILE_UPLOAD"
    ][:1]
    switch, token = await ada.switched(await ada.tenant("Globex"))
    outcomes = []
    for operation_id in (processing, upload, switch):
        run_id = (await temporal.get_workflow_handle(operation_id).describe()).run_id
        await reset_workflow(stack.temporal_address, operation_id)
        outcomes.append(await closed_after(temporal, operation_id, run_id))
    assert outcomes == [WorkflowExecutionStatus.COMPLETED] * 3  # each step finds its result of the previous run
    await asyncio.sleep(TWO_REPAIR_INTERVALS_SECONDS)
    ada.token = token
    assert await ada.current_tenant() == "Globex"
    await ada.work_in("Acme")
    shown = await ada.ask("query ($id: ID!) { node(id: $id) { ... on File { id size } } }", id=file["id"])
    assert shown["node"]["id"] == file["id"]
    assert [await repairs(temporal, each) for each in (processing, upload, switch)] == [[], [], []]


@pytest.mark.parametrize("name", ["store_file", "set_permissions"])
async def test_an_upload_that_was_reset_continues_with_its_own_record(
    stack: Stack, ada: Client, temporal: Temporal, name: str
) -> None:
    upload = await upload_until_step(ada, name)
    run_id = (await temporal.get_workflow_handle(upload).describe()).run_id
    await reset_workflow(stack.temporal_address, upload)
    assert await closed_after(temporal, upload, run_id) == WorkflowExecutionStatus.COMPLETED
    shown = await ada.ask(
        "query ($id: ID!) { operation(id: $id) { ... on FileUpload { result { file { size } } } } }", id=upload
    )
    assert shown["operation"]["result"]["file"]["size"] == 10
    assert await repairs(temporal, upload) == []


async def test_a_repaired_operation_that_is_reset_stays_undone(stack: Stack, ada: Client, temporal: Temporal) -> None:
    person = onboarding_input()
    operation_id = await start_onboarding(ada, person)
    async with ada.follow(operation_id) as states:
        await until_step(states, "send_welcome_email")
        await temporal.get_workflow_handle(operation_id).terminate()
        statuses = [state["status"] async for state in states]
    assert statuses[-1] == "FAILED"

    async def is_repaired() -> bool:
        return await repairs(temporal, operation_id) == [WorkflowExecutionStatus.COMPLETED]

    await until(is_repaired)
    assert not await can_log_in_at_all(stack, person)

    await reset_workflow(stack.temporal_address, operation_id)
    last = await ada.to_its_end(operation_id)
    assert last["status"] == "FAILED"
    assert last["error"]["compensated"] is True
    await asyncio.sleep(TWO_REPAIR_INTERVALS_SECONDS)
    assert not await can_log_in_at_all(stack, person)


async def can_log_in_at_all(stack: Stack, person: Json) -> bool:
    answer = await Client(stack).hear(LOGIN, email=person["email"], password=PASSWORD)
    return "errors" not in answer

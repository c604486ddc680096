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
from tests.end_to_end.files import complete_upload, create_upload, process_file, send_bytes, upload_file
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
    """A Temporal client of the stack."""
    return await Temporal.connect(stack.temporal_address)


@pytest.fixture
async def ada(stack: Stack) -> Client:
    """A client that is signed in as Ada in Acme."""
    client = Client(stack)
    await client.log_in("ada@example.com")
    await client.ensure_tenant("Acme")
    return client


async def start_onboarding(client: Client, person: Json) -> str:
    """Start an onboarding without waiting and return its id."""
    return cast(
        "str", (await client.execute(START, input=person | {"waitSeconds": 0}))["onboardUser"]["operation"]["id"]
    )


class EndedBeforeStep(Exception):
    """The operation ended before the step was observed."""


async def wait_for_step(states: AsyncIterator[Json], name: str) -> Json:
    """Return the first state in which this step is the current one."""
    async with asyncio.timeout(60):
        async for state in states:
            if state["progress"]["currentStep"] == name:
                return state
    raise EndedBeforeStep(name)


async def upload_at_step(client: Client, name: str) -> str:
    """Start an upload and return its id when it is at the step; on a busy machine an upload may end earlier."""
    for _ in range(10):
        target = await create_upload(client, b"some text\n")
        assert (await send_bytes(target, b"some text\n")).status_code == 200
        upload = (await complete_upload(client, target["id"], waitSeconds=0))["id"]
        async with client.follow(upload) as states:
            with suppress(EndedBeforeStep):
                await wait_for_step(states, name)
                return cast("str", upload)
    raise EndedBeforeStep(name)


async def can_log_in(stack: Stack, person: Json) -> bool:
    """Return whether the user can sign in."""
    response = await Client(stack).execute(LOGIN, email=person["email"], password=PASSWORD)
    return bool(response["login"]["operation"]["status"] == "COMPLETED")


async def wait_until(condition: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    """Poll the condition until it holds; raise TimeoutError after this many seconds."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - the condition is in another process
            await asyncio.sleep(0.2)


async def repair_statuses(temporal: Temporal, operation_id: str) -> list[WorkflowExecutionStatus | None]:
    """Return the statuses of all repairs of the operation."""
    workflows = temporal.list_workflows("WorkflowType = 'RepairOperation'")
    return [repair.status async for repair in workflows if operation_id in repair.id]


async def status_of_next_run(temporal: Temporal, operation_id: str, run_id: str) -> WorkflowExecutionStatus | None:
    """Wait until the run after this one has closed; return its status."""
    async with asyncio.timeout(60):
        while True:
            described = await temporal.get_workflow_handle(operation_id).describe()
            if described.run_id != run_id and described.close_time is not None:
                return described.status
            await asyncio.sleep(0.2)


@pytest.mark.parametrize("event_type", ["FirstWorkflowTask", "LastWorkflowTask"])
async def test_reset_onboarding_keeps_its_user(stack: Stack, ada: Client, temporal: Temporal, event_type: str) -> None:
    person = onboarding_input()
    operation_id = await start_onboarding(ada, person)
    async with ada.follow(operation_id) as states:
        await wait_for_step(states, "send_welcome_email")
        await reset_workflow(stack.temporal_address, operation_id, to=event_type)
        statuses = [state["status"] async for state in states]
    assert statuses[-1] == "COMPLETED"
    assert set(statuses[:-1]) <= {"RUNNING"}

    assert await can_log_in(stack, person)
    await asyncio.sleep(TWO_REPAIR_INTERVALS_SECONDS)
    assert await can_log_in(stack, person)
    assert await repair_statuses(temporal, operation_id) == []


async def test_reset_login_can_be_followed_and_completed_with_its_code(stack: Stack) -> None:
    alan = Client(stack)
    response = await alan.execute(
        """mutation { login(input: {email: "alan@example.com", password: "adx-demo-password", waitSeconds: 20}) {
          sessionToken operation { id status } } }"""
    )
    login, alan.token = response["login"]["operation"], response["login"]["sessionToken"]
    assert login["status"] == "WAITING"
    async with alan.follow(login["id"]) as states:
        await anext(states)
        await reset_workflow(stack.temporal_address, login["id"])
        async with asyncio.timeout(30):
            while (state := await anext(states))["status"] != "WAITING":
                assert state["status"] == "RUNNING"
        submitted = (await alan.execute(SUBMIT, id=login["id"], code=TOTP(TOTP_SECRET).now()))["submitMfaCode"]
        statuses = [state["status"] async for state in states]
    assert statuses[-1] == "COMPLETED"
    assert set(statuses[:-1]) <= {"RUNNING", "WAITING"}
    assert submitted["operation"]["status"] == "COMPLETED"
    assert (await alan.execute("{ viewer { user { email } } }"))["viewer"] == {"user": {"email": "alan@example.com"}}


async def test_completed_operation_is_not_undone_after_a_reset_to_its_beginning(
    stack: Stack, ada: Client, temporal: Temporal
) -> None:
    file = await upload_file(ada, b"some text\n")
    processing = (await process_file(ada, file["id"]))["id"]
    (upload,) = [
        operation["id"]
        for operation in (await ada.execute("{ viewer { operations(first: 5) { nodes { id kind } } } }"))["viewer"][
            "operations"
        ]["nodes"]
        if operation["kind"] == "FILE_UPLOAD"
    ][:1]
    switch, token = await ada.switch_tenant(await ada.tenant_id("Globex"))
    outcomes = []
    for operation_id in (processing, upload, switch):
        run_id = (await temporal.get_workflow_handle(operation_id).describe()).run_id
        await reset_workflow(stack.temporal_address, operation_id)
        outcomes.append(await status_of_next_run(temporal, operation_id, run_id))
    assert outcomes == [WorkflowExecutionStatus.COMPLETED] * 3  # each step finds its result from the previous run
    await asyncio.sleep(TWO_REPAIR_INTERVALS_SECONDS)
    ada.token = token
    assert await ada.current_tenant() == "Globex"
    await ada.ensure_tenant("Acme")
    shown = await ada.execute("query ($id: ID!) { node(id: $id) { ... on File { id size } } }", id=file["id"])
    assert shown["node"]["id"] == file["id"]
    assert [await repair_statuses(temporal, each) for each in (processing, upload, switch)] == [[], [], []]


@pytest.mark.parametrize("name", ["store_file", "set_permissions"])
async def test_reset_upload_continues_with_its_own_record(
    stack: Stack, ada: Client, temporal: Temporal, name: str
) -> None:
    upload = await upload_at_step(ada, name)
    run_id = (await temporal.get_workflow_handle(upload).describe()).run_id
    await reset_workflow(stack.temporal_address, upload)
    assert await status_of_next_run(temporal, upload, run_id) == WorkflowExecutionStatus.COMPLETED
    shown = await ada.execute(
        "query ($id: ID!) { operation(id: $id) { ... on FileUpload { result { file { size } } } } }", id=upload
    )
    assert shown["operation"]["result"]["file"]["size"] == 10
    assert await repair_statuses(temporal, upload) == []


async def test_repaired_operation_stays_undone_after_a_reset(stack: Stack, ada: Client, temporal: Temporal) -> None:
    person = onboarding_input()
    operation_id = await start_onboarding(ada, person)
    async with ada.follow(operation_id) as states:
        await wait_for_step(states, "send_welcome_email")
        await temporal.get_workflow_handle(operation_id).terminate()
        statuses = [state["status"] async for state in states]
    assert statuses[-1] == "FAILED"

    async def is_repaired() -> bool:
        return await repair_statuses(temporal, operation_id) == [WorkflowExecutionStatus.COMPLETED]

    await wait_until(is_repaired)
    assert not await can_start_a_login(stack, person)

    await reset_workflow(stack.temporal_address, operation_id)
    last = await ada.wait_for_final_state(operation_id)
    assert last["status"] == "FAILED"
    assert last["error"]["compensated"] is True
    await asyncio.sleep(TWO_REPAIR_INTERVALS_SECONDS)
    assert not await can_start_a_login(stack, person)


async def can_start_a_login(stack: Stack, person: Json) -> bool:
    """Return whether the credentials of the user are accepted."""
    response = await Client(stack).execute_unchecked(LOGIN, email=person["email"], password=PASSWORD)
    return "errors" not in response

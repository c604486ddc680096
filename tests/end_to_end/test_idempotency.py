"""A hundred concurrent requests with the same idempotency key have one effect and the same response."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast
from uuid import uuid4

from temporalio.client import Client as Temporal

from tests.end_to_end.client import Client, Json
from tests.end_to_end.files import create_upload, send_bytes, upload_file
from tests.end_to_end.test_contract_onboarding import emails_to, onboarding_input
from tests.stack import Stack

CONCURRENT_REQUESTS = 100


async def common_response(ask: Callable[[], Awaitable[Json]]) -> Json:
    """Send the request a hundred times at once; all responses must be equal, and the first is returned."""
    responses = await asyncio.gather(*(ask() for _ in range(CONCURRENT_REQUESTS)))
    assert all(response == responses[0] for response in responses), [
        response for response in responses if response != responses[0]
    ]
    return responses[0]


async def execute_with_retries(client: Client, document: str, **variables: object) -> Json:
    """Execute the document and return its data; repeat after timeouts, as a client should."""
    async with asyncio.timeout(120):
        while True:
            body = await client.execute_unchecked(document, **variables)
            codes = {error["extensions"]["code"] for error in body.get("errors", ())}
            if not codes & {"TIMEOUT", "UPSTREAM_UNAVAILABLE"}:
                assert not codes, body
                return cast("Json", body["data"])
            await asyncio.sleep(1)


async def count_runs(stack: Stack, operation_id: str) -> int:
    """Return the number of runs of the workflow."""
    temporal = await Temporal.connect(stack.temporal_address)
    await temporal.get_workflow_handle(operation_id).describe()
    return (await temporal.count_workflows(f"WorkflowId = '{operation_id}'")).count


async def test_onboards_a_user_once(stack: Stack, ada: Client) -> None:
    input_values = onboarding_input(mfaEnabled=True, idempotencyKey=uuid4().hex)
    document = """
    mutation ($input: OnboardUserInput!) {
      onboardUser(input: $input) { totpUri operation { id status result { user { id } workspace { id } } } }
    }
    """
    response = (await common_response(lambda: execute_with_retries(ada, document, input=input_values)))["onboardUser"]
    assert response["operation"]["status"] == "COMPLETED"
    assert len(emails_to(stack, input_values["email"])) == 1
    assert await count_runs(stack, response["operation"]["id"]) == 1


async def test_creates_one_file_of_an_upload(stack: Stack, ada: Client) -> None:
    target = await create_upload(ada, b"some words\n")
    await send_bytes(target, b"some words\n")
    count = "{ viewer { files(first: 1) { totalCount } } }"
    before = (await ada.execute(count))["viewer"]["files"]["totalCount"]
    document = """
    mutation ($input: CompleteUploadInput!) {
      completeUpload(input: $input) { operation { id status result { file { id } } } }
    }
    """
    input_values = {"uploadId": target["id"], "idempotencyKey": uuid4().hex, "waitSeconds": 30}
    response = (await common_response(lambda: execute_with_retries(ada, document, input=input_values)))[
        "completeUpload"
    ]["operation"]
    assert response["status"] == "COMPLETED"
    assert (await ada.execute(count))["viewer"]["files"]["totalCount"] == before + 1
    assert await count_runs(stack, response["id"]) == 1


async def test_processes_a_file_once(stack: Stack, ada: Client) -> None:
    file = await upload_file(ada, b"some words\n")
    document = "mutation ($input: ProcessFileInput!) { processFile(input: $input) { operation { id status } } }"
    input_values = {"fileId": file["id"], "idempotencyKey": uuid4().hex, "waitSeconds": 30}
    response = (await common_response(lambda: execute_with_retries(ada, document, input=input_values)))["processFile"][
        "operation"
    ]
    assert response["status"] == "COMPLETED"
    assert await count_runs(stack, response["id"]) == 1


async def test_creates_one_session_for_a_login(stack: Stack, ada: Client) -> None:
    new_user = onboarding_input()
    onboard = "mutation ($input: OnboardUserInput!) { onboardUser(input: $input) { operation { status } } }"
    assert (await ada.execute(onboard, input=new_user))["onboardUser"]["operation"]["status"] == "COMPLETED"
    document = """
    mutation ($input: LoginInput!) {
      login(input: $input) { sessionToken operation { id status } viewer { user { email } } }
    }
    """
    input_values = {
        "email": new_user["email"],
        "password": new_user["password"],
        "idempotencyKey": uuid4().hex,
        "waitSeconds": 30,
    }
    response = (await common_response(lambda: Client(stack).execute(document, input=input_values)))["login"]
    assert response["operation"]["status"] == "COMPLETED"
    signed_in = Client(stack, response["sessionToken"])
    assert len((await signed_in.execute("{ viewer { sessions { id } } }"))["viewer"]["sessions"]) == 1
    assert await count_runs(stack, response["operation"]["id"]) == 1


SWITCH = """
mutation ($input: SwitchTenantInput!) {
  switchTenant(input: $input) {
    sessionToken operation { id status } viewer { tenantOverview { currentTenant { name } } }
  }
}
"""


async def test_switches_once_although_the_first_response_ends_the_session_of_the_others(
    stack: Stack, ada: Client
) -> None:
    input_values = {"tenantId": await ada.tenant_id("Globex"), "idempotencyKey": uuid4().hex, "waitSeconds": 30}
    response = (await common_response(lambda: ada.execute(SWITCH, input=input_values)))["switchTenant"]
    assert response["operation"]["status"] == "COMPLETED"
    assert response["viewer"]["tenantOverview"]["currentTenant"]["name"] == "Globex"
    assert await count_runs(stack, response["operation"]["id"]) == 1


async def test_switch_to_the_current_tenant_keeps_the_session_and_its_token(stack: Stack, ada: Client) -> None:
    current_tenant_id = await ada.tenant_id(await ada.current_tenant())
    session = "{ viewer { session { id expiresAt } } }"
    before = await ada.execute(session)
    for key in (uuid4().hex, None):
        input_values = {"tenantId": current_tenant_id, "idempotencyKey": key, "waitSeconds": 0}
        for _ in range(2):
            response = (await ada.execute(SWITCH, input=input_values))["switchTenant"]
            assert response["operation"]["status"] == "COMPLETED"
            assert response["sessionToken"] is None
            assert response["viewer"]["tenantOverview"]["currentTenant"]["name"] == await ada.current_tenant()
    assert await ada.execute(session) == before


async def test_ended_session_gets_the_response_of_its_switch_again_only_by_its_key(stack: Stack, ada: Client) -> None:
    globex, key = await ada.tenant_id("Globex"), uuid4().hex
    input_values = {"tenantId": globex, "idempotencyKey": key, "waitSeconds": 30}
    first_response = (await ada.execute(SWITCH, input=input_values))["switchTenant"]

    repeated = (await ada.execute(SWITCH, input=input_values))["switchTenant"]
    assert repeated == first_response
    assert (await ada.execute("{ viewer { user { id } } }"))["viewer"] is None
    for other in (input_values | {"idempotencyKey": uuid4().hex}, {"tenantId": globex}):
        assert (await ada.error_of(SWITCH, input=other))["code"] == "UNAUTHENTICATED"
    assert (await ada.error_of(SWITCH, input=input_values | {"tenantId": "ten_" + "0" * 32}))["code"] == "CONFLICT"

    new_client = Client(stack, first_response["sessionToken"])
    await new_client.execute("mutation { logout { ok } }")
    assert (await new_client.error_of(SWITCH, input=input_values))["code"] == "UNAUTHENTICATED"
    assert (await ada.execute(SWITCH, input=input_values))["switchTenant"]["viewer"] is None


async def test_ended_session_can_still_follow_its_switch_to_the_end(stack: Stack, ada: Client) -> None:
    input_values = {"tenantId": await ada.tenant_id("Globex"), "waitSeconds": 30}
    switch = (await ada.execute(SWITCH, input=input_values))["switchTenant"]["operation"]
    assert (await ada.wait_for_final_state(switch["id"]))["status"] == "COMPLETED"
    other = await Client(stack, None).execute_unchecked(
        "query ($id: ID!) { operation(id: $id) { id } }", id=switch["id"]
    )
    assert other["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert (await ada.execute("{ viewer { user { id } } }"))["viewer"] is None

"""A hundred clients that all send the same: one operation, one effect, and the same answer for all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast
from uuid import uuid4

from temporalio.client import Client as Temporal

from tests.end_to_end.client import Client, Json
from tests.end_to_end.files import announce, keep, send
from tests.end_to_end.test_contract_onboarding import letters_to, onboarding_input
from tests.stack import Stack

MANY = 100


async def the_one_answer(ask: Callable[[], Awaitable[Json]]) -> Json:
    answers = await asyncio.gather(*(ask() for _ in range(MANY)))
    assert all(answer == answers[0] for answer in answers), [answer for answer in answers if answer != answers[0]]
    return answers[0]


async def answered(client: Client, document: str, **variables: object) -> Json:
    """Return the data; repeat as a client should, for a hundred requests at once can be too many for a busy machine."""
    async with asyncio.timeout(120):
        while True:
            body = await client.hear(document, **variables)
            codes = {error["extensions"]["code"] for error in body.get("errors", ())}
            if not codes & {"TIMEOUT", "UPSTREAM_UNAVAILABLE"}:
                assert not codes, body
                return cast("Json", body["data"])
            await asyncio.sleep(1)


async def workflows(stack: Stack, operation_id: str) -> int:
    """How many runs there are of it."""
    temporal = await Temporal.connect(stack.temporal_address)
    await temporal.get_workflow_handle(operation_id).describe()
    return (await temporal.count_workflows(f"WorkflowId = '{operation_id}'")).count


async def test_a_newcomer_is_taken_in_once(stack: Stack, ada: Client) -> None:
    person = onboarding_input(mfaEnabled=True, idempotencyKey=uuid4().hex)
    document = """
    mutation ($input: OnboardUserInput!) {
      onboardUser(input: $input) { totpUri operation { id status result { user { id } workspace { id } } } }
    }
    """
    answer = (await the_one_answer(lambda: answered(ada, document, input=person)))["onboardUser"]
    assert answer["operation"]["status"] == "COMPLETED"
    assert len(letters_to(stack, person["email"])) == 1
    assert await workflows(stack, answer["operation"]["id"]) == 1


async def test_an_upload_is_made_a_file_once(stack: Stack, ada: Client) -> None:
    target = await announce(ada, b"some words\n")
    await send(target, b"some words\n")
    count = "{ viewer { files(first: 1) { totalCount } } }"
    before = (await ada.ask(count))["viewer"]["files"]["totalCount"]
    document = """
    mutation ($input: CompleteUploadInput!) {
      completeUpload(input: $input) { operation { id status result { file { id } } } }
    }
    """
    wanted = {"uploadId": target["id"], "idempotencyKey": uuid4().hex, "waitSeconds": 30}
    answer = (await the_one_answer(lambda: answered(ada, document, input=wanted)))["completeUpload"]["operation"]
    assert answer["status"] == "COMPLETED"
    assert (await ada.ask(count))["viewer"]["files"]["totalCount"] == before + 1
    assert await workflows(stack, answer["id"]) == 1


async def test_a_file_is_read_once(stack: Stack, ada: Client) -> None:
    file = await keep(ada, b"some words\n")
    document = "mutation ($input: ProcessFileInput!) { processFile(input: $input) { operation { id status } } }"
    wanted = {"fileId": file["id"], "idempotencyKey": uuid4().hex, "waitSeconds": 30}
    answer = (await the_one_answer(lambda: answered(ada, document, input=wanted)))["processFile"]["operation"]
    assert answer["status"] == "COMPLETED"
    assert await workflows(stack, answer["id"]) == 1


async def test_somebody_signs_in_once(stack: Stack, ada: Client) -> None:
    person = onboarding_input()
    onboard = "mutation ($input: OnboardUserInput!) { onboardUser(input: $input) { operation { status } } }"
    assert (await ada.ask(onboard, input=person))["onboardUser"]["operation"]["status"] == "COMPLETED"
    document = """
    mutation ($input: LoginInput!) {
      login(input: $input) { sessionToken operation { id status } viewer { user { email } } }
    }
    """
    wanted = {
        "email": person["email"],
        "password": person["password"],
        "idempotencyKey": uuid4().hex,
        "waitSeconds": 30,
    }
    answer = (await the_one_answer(lambda: Client(stack).ask(document, input=wanted)))["login"]
    assert answer["operation"]["status"] == "COMPLETED"
    signed_in = Client(stack, answer["sessionToken"])
    assert len((await signed_in.ask("{ viewer { sessions { id } } }"))["viewer"]["sessions"]) == 1
    assert await workflows(stack, answer["operation"]["id"]) == 1


SWITCH = """
mutation ($input: SwitchTenantInput!) {
  switchTenant(input: $input) {
    sessionToken operation { id status } viewer { tenantOverview { currentTenant { name } } }
  }
}
"""


async def test_somebody_switches_once_though_the_first_answer_ends_the_others_session(
    stack: Stack, ada: Client
) -> None:
    wanted = {"tenantId": await ada.tenant("Globex"), "idempotencyKey": uuid4().hex, "waitSeconds": 30}
    answer = (await the_one_answer(lambda: ada.ask(SWITCH, input=wanted)))["switchTenant"]
    assert answer["operation"]["status"] == "COMPLETED"
    assert answer["viewer"]["tenantOverview"]["currentTenant"]["name"] == "Globex"
    assert await workflows(stack, answer["operation"]["id"]) == 1


async def test_a_switch_to_the_current_tenant_keeps_the_session_and_its_token(stack: Stack, ada: Client) -> None:
    here = await ada.tenant(await ada.current_tenant())
    session = "{ viewer { session { id expiresAt } } }"
    before = await ada.ask(session)
    for key in (uuid4().hex, None):
        wanted = {"tenantId": here, "idempotencyKey": key, "waitSeconds": 0}
        for _ in range(2):
            answer = (await ada.ask(SWITCH, input=wanted))["switchTenant"]
            assert answer["operation"]["status"] == "COMPLETED"
            assert answer["sessionToken"] is None
            assert answer["viewer"]["tenantOverview"]["currentTenant"]["name"] == await ada.current_tenant()
    assert await ada.ask(session) == before


async def test_a_lost_answer_to_a_switch_is_had_again_by_its_key_and_by_no_other(stack: Stack, ada: Client) -> None:
    globex, key = await ada.tenant("Globex"), uuid4().hex
    wanted = {"tenantId": globex, "idempotencyKey": key, "waitSeconds": 30}
    lost = (await ada.ask(SWITCH, input=wanted))["switchTenant"]

    again = (await ada.ask(SWITCH, input=wanted))["switchTenant"]
    assert again == lost
    assert (await ada.ask("{ viewer { user { id } } }"))["viewer"] is None
    for other in (wanted | {"idempotencyKey": uuid4().hex}, {"tenantId": globex}):
        assert (await ada.refused(SWITCH, input=other))["code"] == "UNAUTHENTICATED"
    assert (await ada.refused(SWITCH, input=wanted | {"tenantId": "ten_" + "0" * 32}))["code"] == "CONFLICT"

    there = Client(stack, lost["sessionToken"])
    await there.ask("mutation { logout { ok } }")
    assert (await there.refused(SWITCH, input=wanted))["code"] == "UNAUTHENTICATED"
    assert (await ada.ask(SWITCH, input=wanted))["switchTenant"]["viewer"] is None


async def test_who_comes_late_to_the_switch_that_ended_their_session_is_told_its_end(stack: Stack, ada: Client) -> None:
    wanted = {"tenantId": await ada.tenant("Globex"), "waitSeconds": 30}
    switch = (await ada.ask(SWITCH, input=wanted))["switchTenant"]["operation"]
    assert (await ada.to_its_end(switch["id"]))["status"] == "COMPLETED"
    other = await Client(stack, None).hear("query ($id: ID!) { operation(id: $id) { id } }", id=switch["id"])
    assert other["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert (await ada.ask("{ viewer { user { id } } }"))["viewer"] is None

"""Retry of a failed operation: by its user, in its tenant and only if it failed."""

from __future__ import annotations

from uuid import uuid4

from tests.end_to_end.client import Client
from tests.end_to_end.files import complete_upload, create_upload
from tests.stack import Stack

RETRY = """
mutation ($id: ID!, $key: String) {
  retryOperation(input: {id: $id, idempotencyKey: $key, waitSeconds: 30}) {
    operation { __typename id status error { code } }
    sessionToken
    viewer { user { email } }
  }
}
"""
UNKNOWN_TENANT = "ten_" + "f" * 32


async def failed_switch(client: Client) -> str:
    """Start a switch to an unknown tenant, which fails, and return its id."""
    switch, _ = await client.start_switch(UNKNOWN_TENANT)
    assert (await client.wait_for_final_state(switch))["status"] == "FAILED"
    return switch


async def test_retried_switch_has_a_new_token(ada: Client) -> None:
    before, token = await ada.start_switch(UNKNOWN_TENANT)
    assert (await ada.wait_for_final_state(before))["status"] == "FAILED"
    key = uuid4().hex
    response, repeated = [(await ada.execute(RETRY, id=before, key=key))["retryOperation"] for _ in range(2)]
    assert response == repeated
    assert (response["operation"]["__typename"], response["operation"]["status"]) == ("TenantSwitch", "FAILED")
    assert response["operation"]["error"] == {"code": "PERMISSION_DENIED"}
    assert response["operation"]["id"] != before
    assert response["sessionToken"] not in (None, token)
    assert response["viewer"] is None


async def test_only_the_user_of_an_operation_can_retry_it(stack: Stack, ada: Client, grace: Client) -> None:
    graces_switch, adas_switch = await failed_switch(grace), await failed_switch(ada)
    # Ada sees the switch as an administrator of the tenant.
    assert await ada.error_of(RETRY, id=graces_switch) == {"code": "FORBIDDEN", "reason": "NOT_PERMITTED"}
    assert await grace.error_of(RETRY, id=adas_switch) == {"code": "NOT_FOUND"}
    assert await grace.error_of(RETRY, id="tenant-switch-" + "f" * 32) == {"code": "NOT_FOUND"}
    assert await Client(stack).error_of(RETRY, id=adas_switch) == {"code": "UNAUTHENTICATED"}


async def test_operation_of_a_tenant_can_be_retried_only_there(stack: Stack, ada: Client) -> None:
    failed = (await complete_upload(ada, (await create_upload(ada, b"x"))["id"]))["id"]
    _, token = await ada.switch_tenant(await ada.tenant_id("Globex"))
    in_globex = Client(stack, token)
    assert await in_globex.error_of(RETRY, id=failed) == {"code": "FORBIDDEN", "reason": "NOT_PERMITTED"}
    _, token = await in_globex.switch_tenant(await in_globex.tenant_id("Acme"))
    repeated = (await Client(stack, token).execute(RETRY, id=failed))["retryOperation"]["operation"]
    assert (repeated["__typename"], repeated["status"]) == ("FileUpload", "FAILED")

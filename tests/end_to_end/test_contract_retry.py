"""Starting a failed operation again: by whom, from where, and which."""

from __future__ import annotations

from uuid import uuid4

from tests.end_to_end.client import Client
from tests.end_to_end.files import announce, complete
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
NOWHERE = "ten_" + "f" * 32


async def failed_switch(client: Client) -> str:
    switch, _ = await client.start_switch(NOWHERE)
    assert (await client.to_its_end(switch))["status"] == "FAILED"
    return switch


async def test_a_switch_is_started_again_with_a_token_of_its_own(ada: Client) -> None:
    before, token = await ada.start_switch(NOWHERE)
    assert (await ada.to_its_end(before))["status"] == "FAILED"
    key = uuid4().hex
    answer, again = [(await ada.ask(RETRY, id=before, key=key))["retryOperation"] for _ in range(2)]
    assert answer == again
    assert (answer["operation"]["__typename"], answer["operation"]["status"]) == ("TenantSwitch", "FAILED")
    assert answer["operation"]["error"] == {"code": "PERMISSION_DENIED"}
    assert answer["operation"]["id"] != before
    assert answer["sessionToken"] not in (None, token)
    assert answer["viewer"] is None


async def test_only_who_started_it_starts_it_again(stack: Stack, ada: Client, grace: Client) -> None:
    hers, adas = await failed_switch(grace), await failed_switch(ada)
    # Ada administers the tenant and sees it.
    assert await ada.refused(RETRY, id=hers) == {"code": "FORBIDDEN", "reason": "NOT_PERMITTED"}
    assert await grace.refused(RETRY, id=adas) == {"code": "NOT_FOUND"}
    assert await grace.refused(RETRY, id="tenant-switch-" + "f" * 32) == {"code": "NOT_FOUND"}
    assert await Client(stack).refused(RETRY, id=adas) == {"code": "UNAUTHENTICATED"}


async def test_what_belongs_to_a_tenant_is_started_again_there_only(stack: Stack, ada: Client) -> None:
    failed = (await complete(ada, (await announce(ada, b"x"))["id"]))["id"]
    _, token = await ada.switched(await ada.tenant("Globex"))
    elsewhere = Client(stack, token)
    assert await elsewhere.refused(RETRY, id=failed) == {"code": "FORBIDDEN", "reason": "NOT_PERMITTED"}
    _, token = await elsewhere.switched(await elsewhere.tenant("Acme"))
    again = (await Client(stack, token).ask(RETRY, id=failed))["retryOperation"]["operation"]
    assert (again["__typename"], again["status"]) == ("FileUpload", "FAILED")

"""The dashboard of the whole product: it shows changes immediately; a hanging service affects only its own fields."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from uuid import uuid4

from infrastructure.caching.tagged_cache import VALUE_TTL_SECONDS
from tests.end_to_end.client import PASSWORD, Client, Json
from tests.end_to_end.files import complete_upload, create_upload, process_file, send_bytes, upload_file
from tests.stack import Stack

DASHBOARD = """
{ viewer { dashboard {
  profile { email } tenant { slug role } lastUpdated
  recentFiles { id owner { email } metadata }
  activeOperations { id kind status startedBy { email } tenant { slug } progress { estimatedSecondsRemaining } }
} } }
"""
CONTENT = b"one two\nthree\n"


async def dashboard(client: Client) -> Json:
    """Return the dashboard of the client's viewer."""
    data: Json = (await client.execute(DASHBOARD))["viewer"]["dashboard"]
    return data


async def test_shows_a_file_as_soon_as_its_operation_has_completed(ada: Client, grace: Client) -> None:
    assert (await dashboard(ada))["profile"] == {"email": "ada@example.com"}
    await dashboard(grace)
    file = await upload_file(ada, CONTENT, name=f"{uuid4().hex}.txt", accessLevel="TENANT")
    for client in (ada, grace):  # the cached dashboard of another member is invalidated too
        newest = (await dashboard(client))["recentFiles"][0]
        assert newest == {"id": file["id"], "owner": {"email": "ada@example.com"}, "metadata": None}
    await process_file(ada, file["id"])
    assert (await dashboard(grace))["recentFiles"][0]["metadata"] == {"lines": 2, "words": 3, "bytes": len(CONTENT)}


async def test_shows_an_operation_from_its_start_to_its_end(ada: Client) -> None:
    target = await create_upload(ada, CONTENT)
    await send_bytes(target, CONTENT)
    operation = await complete_upload(ada, target["id"], waitSeconds=0)
    data = {each["id"]: each for each in (await dashboard(ada))["activeOperations"]}
    if operation["id"] in data:  # it may have completed, and the other gateway of a deployed stack may not show it yet
        assert data[operation["id"]]["kind"] == "FILE_UPLOAD"
        assert data[operation["id"]]["startedBy"] == {"email": "ada@example.com"}
        assert data[operation["id"]]["tenant"] == {"slug": "acme"}
    assert (await ada.wait_for_final_state(operation["id"]))["status"] == "COMPLETED"
    # A dashboard that was cached before the record of operations had the end is shown until the cache entry expires.
    async with asyncio.timeout(VALUE_TTL_SECONDS + 2):
        while operation["id"] in {each["id"] for each in (await dashboard(ada))["activeOperations"]}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (await dashboard(ada))["recentFiles"] != []


async def test_shows_the_new_tenant_after_a_switch(ada: Client) -> None:
    assert (await dashboard(ada))["tenant"]["slug"] == "acme"
    _, ada.token = await ada.switch_tenant(await ada.tenant_id("Globex"))
    data = await dashboard(ada)
    assert data["tenant"] == {"slug": "globex", "role": "admin"}
    assert data["activeOperations"] == []


async def test_hanging_services_make_their_fields_null_until_they_recover(separate_stack: Stack) -> None:
    grace = Client(separate_stack)
    await grace.log_in("grace@example.com")
    await grace.execute("mutation { updatePreferences(input: { theme: DARK }) { preferences { theme } } }")
    worker = separate_stack.processes["worker"]
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        response = await grace.execute_unchecked(DASHBOARD)
        duration_seconds = time.monotonic() - began
    finally:
        os.kill(worker.pid, signal.SIGCONT)
    data = response["data"]["viewer"]["dashboard"]
    assert duration_seconds < 3, "sources have a timeout of one second and are called concurrently"
    sources = ("profile", "tenant", "recentFiles", "activeOperations")
    assert {field: data[field] for field in sources} == dict.fromkeys(sources)
    extensions_by_field = {error["path"][-1]: error["extensions"] for error in response["errors"]}
    assert {
        field: (extensions["code"], extensions["service"]) for field, extensions in extensions_by_field.items()
    } == {
        "profile": ("TIMEOUT", "users"),
        "tenant": ("TIMEOUT", "tenants"),
        "recentFiles": ("TIMEOUT", "files"),
        "activeOperations": ("TIMEOUT", "operations"),
    }
    assert (await dashboard(grace))["profile"] == {"email": "grace@example.com"}


async def test_login_payload_can_contain_the_dashboard(stack: Stack, ada: Client) -> None:
    await upload_file(ada, CONTENT, name=f"{uuid4().hex}.txt")
    response = await Client(stack).execute(
        """mutation ($input: LoginInput!) { login(input: $input) { viewer { dashboard {
          recentFiles { id owner { email } } activeOperations { id startedBy { email } } tenant { slug }
        } } } }""",
        input={"email": "ada@example.com", "password": PASSWORD, "waitSeconds": 30},
    )
    data = response["login"]["viewer"]["dashboard"]
    assert data["recentFiles"][0]["owner"] == {"email": "ada@example.com"}

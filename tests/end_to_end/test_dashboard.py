"""The dashboard of the whole product: what one did is in it at once, and what hangs takes nothing else with it."""

from __future__ import annotations

import os
import signal
import time
from uuid import uuid4

from tests.end_to_end.client import PASSWORD, Client, Json
from tests.end_to_end.files import announce, complete, keep, process, send
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
    shown: Json = (await client.ask(DASHBOARD))["viewer"]["dashboard"]
    return shown


async def test_a_file_is_in_it_as_soon_as_its_operation_has_completed(ada: Client, grace: Client) -> None:
    assert (await dashboard(ada))["profile"] == {"email": "ada@example.com"}
    await dashboard(grace)
    file = await keep(ada, CONTENT, name=f"{uuid4().hex}.txt", accessLevel="TENANT")
    for client in (ada, grace):  # a colleague's copy is outdated, too
        newest = (await dashboard(client))["recentFiles"][0]
        assert newest == {"id": file["id"], "owner": {"email": "ada@example.com"}, "metadata": None}
    await process(ada, file["id"])
    assert (await dashboard(grace))["recentFiles"][0]["metadata"] == {"lines": 2, "words": 3, "bytes": len(CONTENT)}


async def test_an_operation_is_in_it_from_its_start_to_its_close(ada: Client) -> None:
    target = await announce(ada, CONTENT)
    await send(target, CONTENT)
    operation = await complete(ada, target["id"], waitSeconds=0)
    shown = {each["id"]: each for each in (await dashboard(ada))["activeOperations"]}
    if operation["id"] in shown:  # it may have been quicker than we
        assert shown[operation["id"]]["kind"] == "FILE_UPLOAD"
        assert shown[operation["id"]]["startedBy"] == {"email": "ada@example.com"}
        assert shown[operation["id"]]["tenant"] == {"slug": "acme"}
    else:
        assert (await dashboard(ada))["recentFiles"] != []
    assert (await ada.to_its_end(operation["id"]))["status"] == "COMPLETED"
    assert operation["id"] not in {each["id"] for each in (await dashboard(ada))["activeOperations"]}


async def test_a_switch_shows_the_dashboard_of_the_new_tenant(ada: Client) -> None:
    assert (await dashboard(ada))["tenant"]["slug"] == "acme"
    _, ada.token = await ada.switched(await ada.tenant("Globex"))
    shown = await dashboard(ada)
    assert shown["tenant"] == {"slug": "globex", "role": "admin"}
    assert shown["activeOperations"] == []


async def test_services_that_hang_leave_their_fields_null_and_come_back(separate_stack: Stack) -> None:
    grace = Client(separate_stack)
    await grace.log_in("grace@example.com")
    await grace.ask("mutation { updatePreferences(input: { theme: DARK }) { preferences { theme } } }")
    worker = separate_stack.processes["worker"]
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        answer = await grace.hear(DASHBOARD)
        took = time.monotonic() - began
    finally:
        os.kill(worker.pid, signal.SIGCONT)
    shown = answer["data"]["viewer"]["dashboard"]
    assert took < 3, "one second for each source, side by side"
    sources = ("profile", "tenant", "recentFiles", "activeOperations")
    assert {field: shown[field] for field in sources} == dict.fromkeys(sources)
    told = {error["path"][-1]: error["extensions"] for error in answer["errors"]}
    assert {field: (why["code"], why["service"]) for field, why in told.items()} == {
        "profile": ("TIMEOUT", "users"),
        "tenant": ("TIMEOUT", "tenants"),
        "recentFiles": ("TIMEOUT", "files"),
        "activeOperations": ("TIMEOUT", "operations"),
    }
    assert (await dashboard(grace))["profile"] == {"email": "grace@example.com"}


async def test_a_login_can_be_answered_by_the_dashboard_with_all_that_is_in_it(stack: Stack, ada: Client) -> None:
    await keep(ada, CONTENT, name=f"{uuid4().hex}.txt")
    answer = await Client(stack).ask(
        """mutation ($input: LoginInput!) { login(input: $input) { viewer { dashboard {
          recentFiles { id owner { email } } activeOperations { id startedBy { email } } tenant { slug }
        } } } }""",
        input={"email": "ada@example.com", "password": PASSWORD, "waitSeconds": 30},
    )
    shown = answer["login"]["viewer"]["dashboard"]
    assert shown["recentFiles"][0]["owner"] == {"email": "ada@example.com"}

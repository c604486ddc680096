"""Logs tell what went wrong, where and on whose behalf, and nothing that is secret."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from typing import Any

from pydantic import SecretStr

from contracts.auth import Credentials
from infrastructure.observability.logging import add_context, bind, log_context, redact
from tests.stack import ROOT, plain_environment

PROGRAM = """
import logging
import structlog
from infrastructure.observability.logging import log_context, configure_logs

def fail(password):
    raise ValueError("the fact")

configure_logs()
with log_context(request_id="the request"):
    for log in (structlog.get_logger(), logging.getLogger("a.library")):
        try:
            fail("a-secret" + "-word")
        except ValueError as error:
            log.error("trouble", exc_info=error)
"""


def lines(environment: dict[str, str]) -> list[dict[str, Any]]:
    told = plain_environment() | environment
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=ROOT, env=told)
    assert "a-secret-word" not in done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_tracebacks_contain_no_variables() -> None:
    ours, of_a_library = lines({})
    for line in (ours, of_a_library):
        assert line["event"] == "trouble"
        assert line["request_id"] == "the request"
        assert line["level"] == "error"
        assert line["exception"][0]["exc_value"] == "the fact"
        assert line["exception"][0]["frames"][-1]["name"] == "fail"
    assert of_a_library["logger"] == "a.library"


def at_a_terminal(environment: dict[str, str]) -> str:
    ours, theirs = pty.openpty()
    told = plain_environment() | environment
    subprocess.run([sys.executable, "-c", PROGRAM], stderr=theirs, cwd=ROOT, env=told, check=True)
    os.close(theirs)
    text = b""
    while b"trouble" not in text or (text.count(b"ValueError") < 2 and text.count(b"the fact") < 2):
        text += os.read(ours, 65536)
    os.close(ours)
    return text.decode()


def test_terminal_receives_text_and_production_always_json() -> None:
    shown = at_a_terminal({})
    assert "Traceback" in shown
    assert "a-secret-word" not in shown
    assert json.loads(at_a_terminal({"ENVIRONMENT": "production"}).splitlines()[0])["event"] == "trouble"


def facts() -> dict[str, object]:
    return dict(add_context(None, "", {}))


async def test_bound_values_are_logged_by_all_tasks_of_the_request_and_no_other() -> None:
    async def look_up() -> None:
        bind(user="usr_1")

    async def one(request_id: str) -> dict[str, object]:
        with log_context(request_id=request_id):
            if request_id == "first":
                await asyncio.create_task(look_up())
            await asyncio.sleep(0)
            return facts()

    first, second = await asyncio.gather(one("first"), one("second"))
    assert first == {"request_id": "first", "user": "usr_1"}
    assert second == {"request_id": "second"}
    bind(user="usr_2")
    assert facts() == {}


def test_line_with_a_workflow_id_contains_the_kind_of_operation() -> None:
    assert add_context(None, "", {"workflow_id": f"tenant-switch-{'0' * 32}"})["kind"] == "TENANT_SWITCH"
    assert "kind" not in add_context(None, "", {"workflow_id": "repair"})


def test_redacts_secret_types_in_nested_values() -> None:
    secret = SecretStr("a-secret-word")
    credentials = Credentials(email="ada@example.com", password=secret)
    event = {"one": secret, "many": [{"deep": (secret, b"a-secret-word")}], "whole": credentials, "count": 3}
    harmless = redact(None, "", event)
    assert harmless == {"one": "***", "many": [{"deep": ["***", "<13 bytes>"]}], "whole": "<Credentials>", "count": 3}

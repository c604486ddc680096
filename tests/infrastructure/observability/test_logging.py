"""Logging: format, bound values, tracebacks without variables, and redaction of secrets."""

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
            log.error("failed", exc_info=error)
"""


def log_lines(environment: dict[str, str]) -> list[dict[str, Any]]:
    variables = plain_environment() | environment
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=ROOT, env=variables)
    assert "a-secret-word" not in done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_tracebacks_contain_no_variables() -> None:
    own_line, library_line = log_lines({})
    for line in (own_line, library_line):
        assert line["event"] == "failed"
        assert line["request_id"] == "the request"
        assert line["level"] == "error"
        assert line["exception"][0]["exc_value"] == "the fact"
        assert line["exception"][0]["frames"][-1]["name"] == "fail"
    assert library_line["logger"] == "a.library"


def run_in_terminal(environment: dict[str, str]) -> str:
    terminal, process_side = pty.openpty()
    variables = plain_environment() | environment
    subprocess.run([sys.executable, "-c", PROGRAM], stderr=process_side, cwd=ROOT, env=variables, check=True)
    os.close(process_side)
    text = b""
    while b"failed" not in text or (text.count(b"ValueError") < 2 and text.count(b"the fact") < 2):
        text += os.read(terminal, 65536)
    os.close(terminal)
    return text.decode()


def test_terminal_receives_text_and_production_always_json() -> None:
    output = run_in_terminal({})
    assert "Traceback" in output
    assert "a-secret-word" not in output
    assert json.loads(run_in_terminal({"ENVIRONMENT": "production"}).splitlines()[0])["event"] == "failed"


def context_of_a_line() -> dict[str, object]:
    return dict(add_context(None, "", {}))


async def test_bound_values_are_logged_by_all_tasks_of_the_request_and_no_other() -> None:
    async def look_up() -> None:
        bind(user="usr_1")

    async def one(request_id: str) -> dict[str, object]:
        with log_context(request_id=request_id):
            if request_id == "first":
                await asyncio.create_task(look_up())
            await asyncio.sleep(0)
            return context_of_a_line()

    first, second = await asyncio.gather(one("first"), one("second"))
    assert first == {"request_id": "first", "user": "usr_1"}
    assert second == {"request_id": "second"}
    bind(user="usr_2")
    assert context_of_a_line() == {}


def test_line_with_a_workflow_id_contains_the_kind_of_operation() -> None:
    assert add_context(None, "", {"workflow_id": f"tenant-switch-{'0' * 32}"})["kind"] == "TENANT_SWITCH"
    assert "kind" not in add_context(None, "", {"workflow_id": "repair"})


def test_redacts_secret_types_in_nested_values() -> None:
    secret = SecretStr("a-secret-word")
    credentials = Credentials(email="ada@example.com", password=secret)
    event = {"one": secret, "many": [{"deep": (secret, b"a-secret-word")}], "whole": credentials, "count": 3}
    redacted = redact(None, "", event)
    assert redacted == {"one": "***", "many": [{"deep": ["***", "<13 bytes>"]}], "whole": "<Credentials>", "count": 3}

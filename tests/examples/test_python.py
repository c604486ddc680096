"""The Python example works against the product as `make dev` runs it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from uuid import uuid4

from pyotp import parse_uri
from pyotp.totp import TOTP

from tests.end_to_end.client import PASSWORD, Client
from tests.stack import ROOT, Stack

EXAMPLE = ROOT / "examples" / "python" / "adx.py"


async def run(stack: Stack, email: str, *arguments: str, expected: int = 0, **environment: str) -> str:
    """Run the example, which must end with the expected exit code; return its output."""
    environment = dict(os.environ) | {"ADX_URL": stack.url, "ADX_PASSWORD": PASSWORD, "COLUMNS": "120"} | environment
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLE),
        "--email",
        email,
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == expected, output.decode()
    return output.decode()


async def test_switches_the_tenant_and_shows_each_step(dev_stack: Stack) -> None:
    await run(dev_stack, "ada@example.com", "switch", "Acme")  # other tests may have switched the tenant
    there = await run(dev_stack, "ada@example.com", "switch", "Globex")
    assert "✓ end_old_session" in there
    assert "TENANT_SWITCH COMPLETED" in there
    assert "You are at Acme now." in await run(dev_stack, "ada@example.com", "switch", "Acme")


async def test_uploads_a_file_and_shows_it_on_the_dashboard(dev_stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / f"{uuid4().hex[:8]}.txt"
    file.write_text("one\ntwo words\n")
    sent = await run(dev_stack, "grace@example.com", "upload", str(file))
    assert "FILE_PROCESSING COMPLETED" in sent
    assert "'words': 3" in sent
    assert file.name in await run(dev_stack, "grace@example.com", "dashboard")


async def test_onboards_a_user_who_then_signs_in(dev_stack: Stack) -> None:
    email = f"{uuid4().hex[:12]}@example.com"
    output = await run(
        dev_stack, "ada@example.com", "onboard", email, "Kay McNulty", ADX_NEW_PASSWORD="correct horse battery"
    )
    assert "✓ create_workspace" in output
    assert "Kay McNulty" in await run(dev_stack, email, "dashboard", ADX_PASSWORD="correct horse battery")


async def test_asks_for_the_second_factor(dev_stack: Stack) -> None:
    ada, email = Client(dev_stack), f"{uuid4().hex[:12]}@example.com"
    await ada.log_in("ada@example.com")
    new_user = {"email": email, "name": "Kurt", "password": PASSWORD, "mfaEnabled": True, "waitSeconds": 30}
    response = await ada.execute(
        "mutation ($input: OnboardUserInput!) { onboardUser(input: $input) { totpUri } }", input=new_user
    )
    authenticator = parse_uri(response["onboardUser"]["totpUri"])
    assert isinstance(authenticator, TOTP)
    assert "Kurt" in await run(dev_stack, email, "dashboard", ADX_CODE=authenticator.now())


async def test_reports_an_error_in_one_line(dev_stack: Stack) -> None:
    refused = await run(dev_stack, "ada@example.com", "dashboard", expected=1, ADX_PASSWORD="not it")
    assert "Traceback" not in refused
    assert len(refused.splitlines()) == 1


async def last_line_without_a_gateway(*arguments: str, **environment: str) -> str:
    """Run the example with an address where nothing listens; return the last line of its output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLE),
        "--email",
        "ada@example.com",
        *arguments,
        env=dict(os.environ) | {"ADX_URL": "http://127.0.0.1:9", "ADX_PASSWORD": PASSWORD} | environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,  # runs without a terminal
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    (line,) = output.decode().splitlines()[-1:]
    assert "Traceback" not in output.decode()
    return line


async def test_reports_a_missing_gateway_or_file_in_one_line(tmp_path: Path) -> None:
    assert await last_line_without_a_gateway("dashboard") == (
        "No gateway answers at http://127.0.0.1:9; in development `make dev` starts one."
    )
    assert "is not the address of a gateway" in await last_line_without_a_gateway("dashboard", ADX_URL="nonsense")
    missing = tmp_path / "gone.txt"
    assert (
        await last_line_without_a_gateway("upload", str(missing))
        == f"{missing} cannot be read: No such file or directory"
    )
    assert "cannot be read: Is a directory" in await last_line_without_a_gateway("upload", str(tmp_path))
    assert "set ADX_PASSWORD" in await last_line_without_a_gateway("dashboard", ADX_PASSWORD="")

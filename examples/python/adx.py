"""Command-line client of the gateway, built with gql: switch the tenant, upload a file, onboard a user.

Each command signs in, starts an operation, and prints the operation's steps while they run.

    pip install -r examples/python/requirements.txt
    python examples/python/adx.py --email ada@example.com dashboard
    python examples/python/adx.py --email ada@example.com switch Globex
    python examples/python/adx.py --email ada@example.com upload README.md
    python examples/python/adx.py --email ada@example.com onboard kay@example.com "Kay McNulty"

The password comes from ADX_PASSWORD or from a prompt, and the gateway's URL from --url or ADX_URL.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import hashlib
import mimetypes
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
from gql import Client, GraphQLRequest
from gql.transport.exceptions import TransportError, TransportQueryError
from gql.transport.httpx import HTTPXAsyncTransport
from gql.transport.websockets import WebsocketsTransport
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.prompt import Prompt
from rich.table import Table
from websockets.exceptions import WebSocketException

Json = dict[str, Any]

STATE = """
fragment State on Operation {
  id kind status cursor error { message compensated }
  progress { fraction currentStep estimatedSecondsRemaining steps { name status attempt lastError } }
  ... on Login { challenge { attemptsLeft } }
  ... on FileUpload { result { file { id } } }
  ... on FileProcessing { result { file { name size checksum metadata } } }
}
"""
LOG_IN = STATE + "mutation ($input: LoginInput!) { login(input: $input) { sessionToken operation { ...State } } }"
SUBMIT = STATE + "mutation ($input: SubmitMfaCodeInput!) { submitMfaCode(input: $input) { operation { ...State } } }"
SWITCH = STATE + "mutation ($input: SwitchTenantInput!) { switchTenant(input: $input) { operation { ...State } } }"
ONBOARD = (
    STATE + "mutation ($input: OnboardUserInput!) { onboardUser(input: $input) { totpUri operation { ...State } } }"
)
CREATE = """
mutation ($input: CreateUploadInput!) {
  createUpload(input: $input) { upload { id url method headers { name value } } }
}
"""
COMPLETE = (
    STATE + "mutation ($input: CompleteUploadInput!) { completeUpload(input: $input) { operation { ...State } } }"
)
PROCESS = STATE + "mutation ($input: ProcessFileInput!) { processFile(input: $input) { operation { ...State } } }"
FOLLOW = STATE + "subscription ($id: ID!, $after: String) { operation(id: $id, after: $after) { ...State } }"
DASHBOARD = """
{ viewer {
    dashboard {
      profile { name email } tenant { name role subscriptionTier }
      recentFiles { name size uploadedAt } activeOperations { kind status progress { fraction } }
    }
    tenantOverview { availableTenants { id name } permissions }
} }
"""
CLOSED_STATUSES = {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"}
STEP_SYMBOLS = {
    "COMPLETED": "[green]✓",
    "RUNNING": "[cyan]…",
    "RETRYING": "[yellow]↻",
    "FAILED": "[red]✗",
    "COMPENSATED": "[magenta]↶",
}

console = Console()


class Gateway:
    """Client of one gateway. Its methods raise TransportQueryError for the errors of a response."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/") + "/graphql"
        self.token: str | None = None
        """Token of the session; None before the login."""

    async def execute(self, document: str, **variables: object) -> Json:
        """Execute a query or mutation over HTTP, and return the data of the response."""
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        transport = HTTPXAsyncTransport(url=self._url, headers=headers, timeout=60)
        async with Client(transport=transport) as session:
            data: Json = await session.execute(GraphQLRequest(document, variable_values=variables))
            return data

    async def follow(self, operation_id: str) -> AsyncIterator[Json]:
        """Yield each newer state of the operation, up to the final one; resume after a lost connection."""
        cursor: str | None = None
        while True:
            payload = {"authorization": f"Bearer {self.token}"} if self.token else {}
            socket = WebsocketsTransport(url=self._url.replace("http", "ws", 1), init_payload=payload)
            try:
                async with Client(transport=socket) as session:
                    variables = {"id": operation_id, "after": cursor}
                    async for result in session.subscribe(GraphQLRequest(FOLLOW, variable_values=variables)):
                        state: Json = result["operation"]
                        cursor = state["cursor"]
                        yield state
                        if state["status"] in CLOSED_STATUSES:
                            return
            except TransportQueryError:
                raise
            except (TransportError, WebSocketException, OSError):
                console.print("[yellow]The connection is lost; reconnecting in a second.")
            await asyncio.sleep(1)


async def show_progress(gateway: Gateway, operation: Json) -> Json:
    """Print the steps and a progress bar until the operation closes, and return its final state.

    Raises:
        SystemExit: the operation did not complete.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(operation["kind"], total=1.0)
        printed: dict[str, str] = {}
        async for state in gateway.follow(operation["id"]):
            operation = state
            progress.update(bar, completed=state["progress"]["fraction"], description=_title(state))
            for step in state["progress"]["steps"]:
                if printed.get(step["name"]) != step["status"] and step["status"] in STEP_SYMBOLS:
                    reason = f" ({step['lastError']})" if step["lastError"] else ""
                    progress.console.print(f"  {STEP_SYMBOLS[step['status']]}[/] {step['name']}{reason}")
                printed[step["name"]] = step["status"]
    if operation["status"] != "COMPLETED":
        undone = " Everything was undone." if operation["error"]["compensated"] else ""
        sys.exit(f"{operation['kind']} {operation['status']}: {operation['error']['message']}{undone}")
    return operation


def _title(state: Json) -> str:
    seconds = state["progress"]["estimatedSecondsRemaining"]
    return f"{state['kind']} {state['status']}" + (f", {seconds:.0f} s left" if seconds else "")


async def log_in(gateway: Gateway, email: str, password: str) -> None:
    """Log in, with the second factor if the account has one; the code comes from ADX_CODE or from a prompt.

    Raises:
        SystemExit: the login did not complete.
    """
    # If the response is lost, a request with the same key returns the same login.
    credentials = {"email": email, "password": password, "idempotencyKey": str(uuid4())}
    login = (await gateway.execute(LOG_IN, input=credentials))["login"]
    operation = login["operation"]
    # The token opens the session when the login completes; until then it proves that this client started the login.
    gateway.token = login["sessionToken"]
    while operation["status"] == "WAITING":
        code = os.environ.get("ADX_CODE") or Prompt.ask(
            f"Code ({operation['challenge']['attemptsLeft']} attempts left)"
        )
        submitted = await gateway.execute(SUBMIT, input={"operationId": operation["id"], "code": code})
        operation = submitted["submitMfaCode"]["operation"]
    if operation["status"] != "COMPLETED":
        sys.exit(f"Not signed in: {operation['error']['message']}")


async def show_dashboard(gateway: Gateway) -> None:
    """Print the dashboard of the current tenant, and the user's tenants."""
    viewer = (await gateway.execute(DASHBOARD))["viewer"]
    dashboard = viewer["dashboard"]
    console.print(
        f"[bold]{dashboard['profile']['name']}[/] at {dashboard['tenant']['name']} ({dashboard['tenant']['role']})"
    )
    table = Table("file", "bytes", "uploaded at")
    for file in dashboard["recentFiles"]:
        table.add_row(file["name"], str(file["size"]), file["uploadedAt"])
    console.print(table)
    for operation in dashboard["activeOperations"]:
        console.print(f"{operation['kind']} {operation['status']} {operation['progress']['fraction']:.0%}")
    console.print("tenants: " + ", ".join(tenant["name"] for tenant in viewer["tenantOverview"]["availableTenants"]))


async def switch_tenant(gateway: Gateway, name: str) -> None:
    """Switch the session to the tenant with this name.

    Raises:
        SystemExit: the user is not a member of such a tenant, or the switch did not complete.
    """
    tenants = (await gateway.execute(DASHBOARD))["viewer"]["tenantOverview"]["availableTenants"]
    tenant_id = next((tenant["id"] for tenant in tenants if tenant["name"] == name), None)
    if tenant_id is None:
        sys.exit(f"You are not a member of a tenant named {name}.")
    # The switch ends the session of this client, which still receives the final state of the switch.
    switch = {"tenantId": tenant_id, "waitSeconds": 0, "idempotencyKey": str(uuid4())}
    started = (await gateway.execute(SWITCH, input=switch))["switchTenant"]
    await show_progress(gateway, started["operation"])
    console.print(f"You are at {name} now.")


async def upload_file(gateway: Gateway, name: str, content: bytes) -> None:
    """Upload a file in four requests: announce it, send its bytes, complete the upload, and process the file.

    Raises:
        SystemExit: the gateway rejected the bytes, or an operation did not complete.
    """
    announced = {
        "name": name,
        "contentType": mimetypes.guess_type(name)[0] or "application/octet-stream",
        "size": len(content),
        "checksum": hashlib.sha256(content).hexdigest(),
    }
    target = (await gateway.execute(CREATE, input=announced))["createUpload"]["upload"]
    async with httpx.AsyncClient(timeout=600) as http:
        headers = {header["name"]: header["value"] for header in target["headers"]}
        sent = await http.request(target["method"], target["url"], headers=headers, content=content)
        if sent.is_error:
            sys.exit(f"The gateway rejected the bytes: {sent.text}")
    upload = {"uploadId": target["id"], "idempotencyKey": str(uuid4())}
    completing = (await gateway.execute(COMPLETE, input=upload))["completeUpload"]
    completed = await show_progress(gateway, completing["operation"])
    processing = (await gateway.execute(PROCESS, input={"fileId": completed["result"]["file"]["id"]}))["processFile"]
    processed = await show_progress(gateway, processing["operation"])
    console.print(processed["result"]["file"])


async def onboard_user(gateway: Gateway, email: str, name: str) -> None:
    """Create a user in the current tenant; the password comes from ADX_NEW_PASSWORD or from a prompt.

    Raises:
        SystemExit: the onboarding did not complete.
    """
    password = os.environ.get("ADX_NEW_PASSWORD") or getpass.getpass("Password of the new user: ")
    user = {"email": email, "name": name, "password": password, "idempotencyKey": str(uuid4())}
    await show_progress(gateway, (await gateway.execute(ONBOARD, input=user))["onboardUser"]["operation"])
    console.print(f"{name} can sign in now.")


async def main() -> None:
    arguments = _parse_arguments()
    if urlsplit(arguments.url).scheme not in ("http", "https"):
        sys.exit(f"{arguments.url} is not the address of a gateway: http://HOST:PORT or https://HOST")
    try:
        await _run_command(arguments)
    except TransportQueryError as error:
        sys.exit("; ".join(each["message"] for each in error.errors or ()))
    except (TransportError, httpx.HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.filename:
            sys.exit(f"{error.filename} cannot be read: {error.strerror}")
        sys.exit(f"No gateway answers at {arguments.url}; in development `make dev` starts one.")
    except EOFError:
        sys.exit("There is no terminal for a prompt: set ADX_PASSWORD, ADX_NEW_PASSWORD or ADX_CODE.")


async def _run_command(arguments: argparse.Namespace) -> None:
    gateway = Gateway(arguments.url)
    content = arguments.path.read_bytes() if arguments.command == "upload" else b""
    await log_in(gateway, arguments.email, os.environ.get("ADX_PASSWORD") or getpass.getpass("Password: "))
    match arguments.command:
        case "dashboard":
            await show_dashboard(gateway)
        case "switch":
            await switch_tenant(gateway, arguments.tenant)
        case "upload":
            await upload_file(gateway, arguments.path.name, content)
        case "onboard":
            await onboard_user(gateway, arguments.user_email, arguments.name)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Command-line client of the ADX gateway.")
    parser.add_argument("--url", default=os.environ.get("ADX_URL", "http://127.0.0.1:8080"))
    parser.add_argument("--email", required=True)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("dashboard")
    commands.add_parser("switch").add_argument("tenant")
    commands.add_parser("upload").add_argument("path", type=Path)
    onboarding = commands.add_parser("onboard")
    onboarding.add_argument("user_email", metavar="email")
    onboarding.add_argument("name")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit("Stopped. Operations that were started continue.")

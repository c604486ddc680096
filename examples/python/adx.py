"""A client in a terminal, with gql: sign in, switch tenant, send a file, onboard a user, each with its live steps.

    pip install -r examples/python/requirements.txt
    python examples/python/adx.py --email ada@example.com dashboard
    python examples/python/adx.py --email ada@example.com switch Globex
    python examples/python/adx.py --email ada@example.com upload README.md
    python examples/python/adx.py --email ada@example.com onboard kay@example.com "Kay McNulty"

The password comes from ADX_PASSWORD or the terminal, the gateway from --url or ADX_URL.
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
CLOSED = {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"}
MARKS = {
    "COMPLETED": "[green]✓",
    "RUNNING": "[cyan]…",
    "RETRYING": "[yellow]↻",
    "FAILED": "[red]✗",
    "COMPENSATED": "[magenta]↶",
}

console = Console()


class Gateway:
    """A signed-in client of one gateway. What it is refused is raised as TransportQueryError."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/") + "/graphql"
        self.token: str | None = None

    async def ask(self, document: str, **variables: object) -> Json:
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        transport = HTTPXAsyncTransport(url=self._url, headers=headers, timeout=60)
        async with Client(transport=transport) as session:
            answer: Json = await session.execute(GraphQLRequest(document, variable_values=variables))
            return answer

    async def follow(self, operation_id: str) -> AsyncIterator[Json]:
        """Each newer state, to the last one. A lost connection goes on where it broke off, by the cursor."""
        cursor: str | None = None
        while True:
            payload = {"authorization": f"Bearer {self.token}"} if self.token else {}
            socket = WebsocketsTransport(url=self._url.replace("http", "ws", 1), init_payload=payload)
            try:
                async with Client(transport=socket) as session:
                    variables = {"id": operation_id, "after": cursor}
                    async for answer in session.subscribe(GraphQLRequest(FOLLOW, variable_values=variables)):
                        state: Json = answer["operation"]
                        cursor = state["cursor"]
                        yield state
                        if state["status"] in CLOSED:
                            return
            except TransportQueryError:
                raise
            except (TransportError, WebSocketException, OSError):
                console.print("[yellow]the connection is lost; once more in a second")
            await asyncio.sleep(1)


async def show(gateway: Gateway, operation: Json) -> Json:
    """The last state, with a bar that moves until then. Ends the program where the operation did not complete."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(operation["kind"], total=1.0)
        seen: dict[str, str] = {}
        async for state in gateway.follow(operation["id"]):
            operation = state
            progress.update(bar, completed=state["progress"]["fraction"], description=_title(state))
            for step in state["progress"]["steps"]:
                if seen.get(step["name"]) != step["status"] and step["status"] in MARKS:
                    trouble = f" ({step['lastError']})" if step["lastError"] else ""
                    progress.console.print(f"  {MARKS[step['status']]}[/] {step['name']}{trouble}")
                seen[step["name"]] = step["status"]
    if operation["status"] != "COMPLETED":
        undone = " Everything was undone." if operation["error"]["compensated"] else ""
        sys.exit(f"{operation['kind']} {operation['status']}: {operation['error']['message']}{undone}")
    return operation


def _title(state: Json) -> str:
    left = state["progress"]["estimatedSecondsRemaining"]
    return f"{state['kind']} {state['status']}" + (f", {left:.0f} s left" if left else "")


async def log_in(gateway: Gateway, email: str, password: str) -> None:
    """With the second factor where there is one: the code comes from ADX_CODE or the terminal."""
    # Sent again with the same key, a login whose answer was lost is the same login.
    wanted = {"email": email, "password": password, "idempotencyKey": str(uuid4())}
    answer = (await gateway.ask(LOG_IN, input=wanted))["login"]
    operation = answer["operation"]
    # It opens the session once the login completes; until then it proves that this client started the login.
    gateway.token = answer["sessionToken"]
    while operation["status"] == "WAITING":
        code = os.environ.get("ADX_CODE") or Prompt.ask(f"Code ({operation['challenge']['attemptsLeft']} tries left)")
        submitted = await gateway.ask(SUBMIT, input={"operationId": operation["id"], "code": code})
        operation = submitted["submitMfaCode"]["operation"]
    if operation["status"] != "COMPLETED":
        sys.exit(f"Not signed in: {operation['error']['message']}")


async def dashboard(gateway: Gateway) -> None:
    viewer = (await gateway.ask(DASHBOARD))["viewer"]
    board = viewer["dashboard"]
    console.print(f"[bold]{board['profile']['name']}[/] at {board['tenant']['name']} ({board['tenant']['role']})")
    table = Table("file", "bytes", "since")
    for file in board["recentFiles"]:
        table.add_row(file["name"], str(file["size"]), file["uploadedAt"])
    console.print(table)
    for operation in board["activeOperations"]:
        console.print(f"{operation['kind']} {operation['status']} {operation['progress']['fraction']:.0%}")
    console.print("tenants: " + ", ".join(tenant["name"] for tenant in viewer["tenantOverview"]["availableTenants"]))


async def switch(gateway: Gateway, name: str) -> None:
    tenants = (await gateway.ask(DASHBOARD))["viewer"]["tenantOverview"]["availableTenants"]
    tenant_id = next((tenant["id"] for tenant in tenants if tenant["name"] == name), None)
    if tenant_id is None:
        sys.exit(f"{name} is none of your tenants.")
    # The session that follows it ends with it, and is told the last state before.
    answer = await gateway.ask(SWITCH, input={"tenantId": tenant_id, "waitSeconds": 0, "idempotencyKey": str(uuid4())})
    await show(gateway, answer["switchTenant"]["operation"])
    console.print(f"You are at {name} now.")


async def upload(gateway: Gateway, name: str, content: bytes) -> None:
    """Announce it, send its bytes to where the answer says, have it made a file, then have it read."""
    announced = {
        "name": name,
        "contentType": mimetypes.guess_type(name)[0] or "application/octet-stream",
        "size": len(content),
        "checksum": hashlib.sha256(content).hexdigest(),
    }
    target = (await gateway.ask(CREATE, input=announced))["createUpload"]["upload"]
    async with httpx.AsyncClient(timeout=600) as http:
        headers = {header["name"]: header["value"] for header in target["headers"]}
        sent = await http.request(target["method"], target["url"], headers=headers, content=content)
        if sent.is_error:
            sys.exit(f"The bytes were refused: {sent.text}")
    answer = await gateway.ask(COMPLETE, input={"uploadId": target["id"], "idempotencyKey": str(uuid4())})
    made = await show(gateway, answer["completeUpload"]["operation"])
    answer = await gateway.ask(PROCESS, input={"fileId": made["result"]["file"]["id"]})
    read = await show(gateway, answer["processFile"]["operation"])
    console.print(read["result"]["file"])


async def onboard(gateway: Gateway, email: str, name: str) -> None:
    password = os.environ.get("ADX_NEW_PASSWORD") or getpass.getpass("A password for them: ")
    wanted = {"email": email, "name": name, "password": password, "idempotencyKey": str(uuid4())}
    await show(gateway, (await gateway.ask(ONBOARD, input=wanted))["onboardUser"]["operation"])
    console.print(f"{name} may sign in.")


async def main() -> None:
    arguments = _arguments()
    if urlsplit(arguments.url).scheme not in ("http", "https"):
        sys.exit(f"{arguments.url} is not the address of a gateway: http://HOST:PORT or https://HOST")
    try:
        await _carry_out(arguments)
    except TransportQueryError as error:
        sys.exit("; ".join(each["message"] for each in error.errors or ()))
    except (TransportError, httpx.HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.filename:
            sys.exit(f"{error.filename} cannot be read: {error.strerror}")
        sys.exit(f"No gateway answers at {arguments.url}; in development `make dev` starts one.")
    except EOFError:
        sys.exit(
            "There is no terminal to ask for the password or code: set ADX_PASSWORD, ADX_NEW_PASSWORD or ADX_CODE."
        )


async def _carry_out(arguments: argparse.Namespace) -> None:
    gateway = Gateway(arguments.url)
    content = arguments.path.read_bytes() if arguments.command == "upload" else b""
    await log_in(gateway, arguments.email, os.environ.get("ADX_PASSWORD") or getpass.getpass("Password: "))
    match arguments.command:
        case "dashboard":
            await dashboard(gateway)
        case "switch":
            await switch(gateway, arguments.tenant)
        case "upload":
            await upload(gateway, arguments.path.name, content)
        case "onboard":
            await onboard(gateway, arguments.user_email, arguments.name)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A client of the ADX gateway in a terminal.")
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

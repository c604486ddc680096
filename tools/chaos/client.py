"""A client that retries with the same idempotency key until it has a response, and records everything it receives."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from contracts.operations import OperationKind, operation_id
from infrastructure.signing.secret_keys import SecretKeys
from resolvers.operations.cursors import Cursors
from resolvers.tokens import token_hash
from tests.end_to_end.files import COMPLETE, CREATE
from tools.chaos.environment import PASSWORD, Account, ChaosEnvironment
from tools.chaos.observations import (
    Acknowledged,
    ClientHistory,
    DisplayedId,
    FollowedOperation,
    ReceivedState,
    TokenCheck,
)

MAX_ATTEMPTS = 5
RETRYABLE = frozenset(("UPSTREAM_UNAVAILABLE", "TIMEOUT", "RATE_LIMITED"))
OPERATION = "operation { id status }"
LOG_IN = f"mutation ($input: LoginInput!) {{ login(input: $input) {{ sessionToken {OPERATION} }} }}"
SWITCH = f"mutation ($input: SwitchTenantInput!) {{ switchTenant(input: $input) {{ sessionToken {OPERATION} }} }}"
PROCESS = f"mutation ($input: ProcessFileInput!) {{ processFile(input: $input) {{ {OPERATION} }} }}"
ONBOARD = f"mutation ($input: OnboardUserInput!) {{ onboardUser(input: $input) {{ {OPERATION} }} }}"
UPLOAD = f"mutation ($input: CompleteUploadInput!) {{ completeUpload(input: $input) {{ {OPERATION} }} }}"
CANCEL = "mutation ($input: CancelOperationInput!) { cancelOperation(input: $input) { operation { id status } } }"
DASHBOARD = """{ viewer { user { id } tenantOverview { currentTenant { id } availableTenants { id } }
  files(first: 20) { nodes { id } } operations(first: 20) { nodes { id } } } }"""
FOLLOW = "subscription ($id: ID!, $after: String) { operation(id: $id, after: $after) { id status cursor } }"
CURRENT_TENANT = "{ viewer { tenantOverview { currentTenant { id } } } }"
COMPENSATED = "query ($id: ID!) { operation(id: $id) { error { compensated } } }"
CONTENT = b"one two\nthree\n" * 500

Json = dict[str, Any]


@asynccontextmanager
async def _timeout(message: str, seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise TimeoutError(message) from error


class RequestRejected(Exception):
    """The gateway rejected the request with an error that a retry does not resolve."""

    def __init__(self, error: Json) -> None:
        super().__init__(str(error))
        self.code: str = error.get("extensions", {}).get("code", "")


class ChaosClient:
    """The client of one account. It runs one operation at a time."""

    def __init__(self, environment: ChaosEnvironment, account: Account, index: int, *, url: str | None = None) -> None:
        self.account = account
        self.history = ClientHistory(account.user_id)
        self.token: str | None = None
        self.tenant_id = account.home
        self._tokens: set[str] = set()
        self.url = url or environment.url
        self._secret = environment.secret
        # Each client has its own address, so that limits per address apply to each client separately.
        address = f"127.{1 + index // 60000}.{index // 250 % 240}.{1 + index % 250}"
        self._address = address
        transport = httpx.AsyncHTTPTransport(local_address=address, retries=0)
        self._http = httpx.AsyncClient(timeout=40, trust_env=False, transport=transport)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def execute(self, document: str, variables: Json | None = None, *, token: str | None = None) -> Json:
        """Send the document once and return the response. Raises httpx.TransportError."""
        token = token or self.token
        headers = {"authorization": f"Bearer {token}"} if token else {}
        body = {"query": document, "variables": variables or {}}
        answer = await self._http.post(f"{self.url}/graphql", json=body, headers=headers)
        response: Json = answer.json()
        return response

    async def execute_with_retries(self, document: str, variables: Json | None = None, *, seconds: float = 120) -> Json:
        """Send the document until the response has no retryable error; return its data.

        Raises:
            RequestRejected: the error is not retryable.
            TimeoutError: the seconds have passed.
        """
        async with asyncio.timeout(seconds):
            while True:
                with suppress(httpx.TransportError, json.JSONDecodeError):
                    answer = await self.execute(document, variables)
                    if not answer.get("errors"):
                        data: Json = answer["data"]
                        return data
                    error = answer["errors"][0]
                    if error.get("extensions", {}).get("code") not in RETRYABLE:
                        raise RequestRejected(error)
                    await asyncio.sleep(min(5.0, error["extensions"].get("retryAfter") or 0.2))
                await asyncio.sleep(0.3)

    async def sign_in(self) -> None:
        """Log in without a planned crash, with several attempts."""
        for _ in range(MAX_ATTEMPTS):
            _, last = await self.log_in(uuid4().hex)
            if last == "COMPLETED":
                return
        raise AssertionError(f"{self.account.email} cannot log in: {last}")

    async def wait_until_signed_in(self, *, by_signing_in: bool) -> None:
        """Wait until the repair of a terminated switch reopens the session, or sign in again."""
        async with _timeout(f"{self.account.email} could not sign in again", 120):
            if by_signing_in:
                await self.sign_in()
            while (tenant_id := await self.current_tenant()) is None:  # noqa: ASYNC110 - the condition is in another process
                await asyncio.sleep(0.5)
        self.tenant_id = tenant_id

    async def log_in(self, key: str) -> tuple[str, str]:
        """Return the operation and its final status; after a success the client uses the new session."""
        wanted = {"email": self.account.email, "password": PASSWORD, "idempotencyKey": key, "waitSeconds": 0}
        operation, status = await self._run_session_operation(LOG_IN, "login", wanted, key)
        if status == "COMPLETED":
            self.tenant_id = await self.current_tenant() or self.tenant_id
        return operation, status

    async def switch(self, key: str) -> tuple[str, str]:
        there = self.account.other if self.tenant_id == self.account.home else self.account.home
        wanted = {"tenantId": there, "idempotencyKey": key, "waitSeconds": 0}
        operation, status = await self._run_session_operation(SWITCH, "switchTenant", wanted, key)
        if status == "COMPLETED":
            self.tenant_id = there
        return operation, status

    async def onboard(self, key: str) -> tuple[str, str]:
        new_user = {"email": f"{key}@example.com", "name": f"New {key[:6]}", "password": PASSWORD}
        return await self._run_operation(ONBOARD, "onboardUser", new_user, key)

    async def upload(self, key: str) -> tuple[str, str]:
        return await self._run_operation(UPLOAD, "completeUpload", {"uploadId": await self.create_staged_upload()}, key)

    async def process(self, key: str) -> tuple[str, str]:
        file_id = await self.create_file(key)
        return await self._run_operation(PROCESS, "processFile", {"fileId": file_id}, key)

    async def create_file(self, key: str) -> str:
        """Upload a file and return its id; an upload that fails because a worker was killed is repeated."""
        upload_id = await self.create_staged_upload()
        for number in range(MAX_ATTEMPTS):
            wanted = {"uploadId": upload_id, "idempotencyKey": f"file {number} for {key}", "waitSeconds": 0}
            made = (await self.execute_with_retries(UPLOAD, {"input": wanted}))["completeUpload"]["operation"]["id"]
            self._record_acknowledged(made, f"file {number} for {key}")
            if await self.follow(made) == "COMPLETED":
                break
        whole = await self.execute_with_retries(COMPLETE, {"input": wanted | {"waitSeconds": 5}})
        file_id: str = whole["completeUpload"]["operation"]["result"]["file"]["id"]
        return file_id

    async def create_staged_upload(self) -> str:
        """Create an upload and send its bytes; return its id."""
        new = {"name": "notes.txt", "contentType": "text/plain", "size": len(CONTENT)}
        new |= {"checksum": hashlib.sha256(CONTENT).hexdigest()}
        target = (await self.execute_with_retries(CREATE, {"input": new}))["createUpload"]["upload"]
        headers = {header["name"]: header["value"] for header in target["headers"]}
        async with asyncio.timeout(120):
            while True:
                with suppress(httpx.TransportError):
                    sent = await self._http.put(target["url"], content=CONTENT, headers=headers)
                    if sent.status_code == httpx.codes.OK:
                        upload_id: str = target["id"]
                        return upload_id
                await asyncio.sleep(0.3)

    async def run_operation(self, kind: OperationKind, key: str) -> tuple[str, str]:
        run_by_kind = {
            OperationKind.LOGIN: self.log_in,
            OperationKind.TENANT_SWITCH: self.switch,
            OperationKind.FILE_UPLOAD: self.upload,
            OperationKind.FILE_PROCESSING: self.process,
            OperationKind.USER_ONBOARDING: self.onboard,
        }
        return await run_by_kind[kind](key)

    def expected_operation_id(self, kind: OperationKind, key: str) -> str:
        """Return the id of the operation that this key will start, so that a crash can be planned for it."""
        alone = kind in (OperationKind.LOGIN, OperationKind.TENANT_SWITCH)
        tenant_id = "" if alone else self.tenant_id
        return operation_id(self._secret, kind, tenant_id=tenant_id, user_id=self.account.user_id, key=key)

    async def cancel(self, operation: str) -> None:
        with suppress(RequestRejected):  # it closed, or the client lost access with the end of its session
            await self.execute_with_retries(CANCEL, {"input": {"id": operation}})

    async def follow(self, operation: str, *, seconds: float = 300) -> str:
        """Its last status, over as many connections as it takes; noted state by state."""
        following = FollowedOperation(operation)
        self.history.followed.append(following)
        token = self.token
        cursors = Cursors(SecretKeys(self._secret))
        async with _timeout(f"{operation} was not followed to its end", seconds):
            while not following.complete:
                with suppress(OSError, WebSocketException, TimeoutError, ConnectionError):
                    await self._follow_once(following, cursors, token)
                if not following.complete:
                    await asyncio.sleep(0.3)
        return following.states[-1].status

    async def sees_compensation(self, operation: str) -> bool:
        """Whether the API reports an operation that did not complete as compensated."""
        error = (await self.execute_with_retries(COMPENSATED, {"id": operation}))["operation"]["error"]
        return error is not None and error["compensated"] is True

    async def read_dashboard(self) -> None:
        """Read the dashboard and record the ids that it displays."""
        viewer = (await self.execute_with_retries(DASHBOARD))["viewer"]
        if viewer is None:
            return
        tenant_id = viewer["tenantOverview"]["currentTenant"]["id"]
        objects = [viewer["user"], *viewer["tenantOverview"]["availableTenants"]]
        objects += [*viewer["files"]["nodes"], *viewer["operations"]["nodes"]]
        self.history.seen.extend(DisplayedId(each["id"], tenant_id) for each in objects)

    async def current_tenant(self) -> str | None:
        """Return the current tenant of the session; None if the token is not valid."""
        viewer = (await self.execute_with_retries(CURRENT_TENANT))["viewer"]
        tenant_id: str | None = viewer and viewer["tenantOverview"]["currentTenant"]["id"]
        return tenant_id

    async def check_tokens(self) -> None:
        """Record which session each token of this client opens now."""
        current = self.token
        for token in self._tokens:
            self.token = token
            self.history.tokens.append(TokenCheck(token_hash(token), await self.current_tenant()))
        self.token = current

    async def _run_session_operation(self, document: str, field: str, wanted: Json, key: str) -> tuple[str, str]:
        answer = (await self.execute_with_retries(document, {"input": wanted}))[field]
        operation: str = answer["operation"]["id"]
        self._record_acknowledged(operation, key)
        token = answer["sessionToken"]  # null after a switch to the current tenant, which changes nothing
        if token is not None:
            self._tokens.add(token)
        status = await self.follow(operation)
        if status == "COMPLETED" and token is not None:
            self.token = token
        return operation, status

    async def _run_operation(self, document: str, field: str, wanted: Json, key: str) -> tuple[str, str]:
        answer = await self.execute_with_retries(
            document, {"input": wanted | {"idempotencyKey": key, "waitSeconds": 0}}
        )
        operation: str = answer[field]["operation"]["id"]
        self._record_acknowledged(operation, key)
        return operation, await self.follow(operation)

    def _record_acknowledged(self, operation: str, key: str) -> None:
        self.history.acknowledged.append(Acknowledged(operation, key))

    async def _follow_once(self, following: FollowedOperation, cursors: Cursors, token: str | None) -> None:
        address = f"ws{self.url.removeprefix('http')}/graphql"
        protocols = [Subprotocol("graphql-transport-ws")]
        async with connect(address, subprotocols=protocols, proxy=None, local_addr=(self._address, 0)) as socket:
            following.connections += 1
            await socket.send(json.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {token}"}}))
            variables = {"id": following.operation_id, "after": following.cursor}
            query = {"query": FOLLOW, "variables": variables}
            await socket.recv()
            await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": query}))
            started = time.monotonic()
            while True:
                message = json.loads(await asyncio.wait_for(socket.recv(), 60))
                if message["type"] == "ping":
                    await socket.send(json.dumps({"type": "pong"}))
                elif message["type"] == "complete":
                    following.complete = True
                    return
                elif message["type"] == "next" and not message["payload"].get("errors"):
                    state = message["payload"]["data"]["operation"]
                    following.cursor = state["cursor"]
                    position = cursors.decode(following.operation_id, following.cursor)
                    following.states.append(ReceivedState(state["status"], tuple(position.model_dump().values())))
                    if following.states[-1].is_end:
                        following.complete = True
                        return
                elif message["type"] in ("next", "error"):
                    if time.monotonic() - started < 1:
                        await asyncio.sleep(0.5)
                    return

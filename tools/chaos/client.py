"""A client that keeps at it: asks again, with the same key, what was not answered, and notes all that it is told."""

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
from tools.chaos.environment import PASSWORD, Account, Ground
from tools.chaos.observations import Acknowledged, Following, History, Seen, Token, Told

MOST_TRIES = 5
RETRYABLE = frozenset(("UPSTREAM_UNAVAILABLE", "TIMEOUT", "RATE_LIMITED"))
OPERATION = "operation { id status }"
LOG_IN = f"mutation ($input: LoginInput!) {{ login(input: $input) {{ sessionToken {OPERATION} }} }}"
SWITCH = f"mutation ($input: SwitchTenantInput!) {{ switchTenant(input: $input) {{ sessionToken {OPERATION} }} }}"
PROCESS = f"mutation ($input: ProcessFileInput!) {{ processFile(input: $input) {{ {OPERATION} }} }}"
ONBOARD = f"mutation ($input: OnboardUserInput!) {{ onboardUser(input: $input) {{ {OPERATION} }} }}"
UPLOAD = f"mutation ($input: CompleteUploadInput!) {{ completeUpload(input: $input) {{ {OPERATION} }} }}"
CANCEL = "mutation ($input: CancelOperationInput!) { cancelOperation(input: $input) { operation { id status } } }"
LOOK = """{ viewer { user { id } tenantOverview { currentTenant { id } availableTenants { id } }
  files(first: 20) { nodes { id } } operations(first: 20) { nodes { id } } } }"""
FOLLOW = "subscription ($id: ID!, $after: String) { operation(id: $id, after: $after) { id status cursor } }"
WHO = "{ viewer { tenantOverview { currentTenant { id } } } }"
UNDONE = "query ($id: ID!) { operation(id: $id) { error { compensated } } }"
CONTENT = b"one two\nthree\n" * 500

Json = dict[str, Any]


@asynccontextmanager
async def _saying(what: str, seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise TimeoutError(what) from error


class Refused(Exception):
    """The answer is final, and it is no; its first error."""

    def __init__(self, error: Json) -> None:
        super().__init__(str(error))
        self.code: str = error.get("extensions", {}).get("code", "")


class Actor:
    """One account's client. Its operations come one after another."""

    def __init__(self, ground: Ground, account: Account, index: int, *, url: str | None = None) -> None:
        self.account = account
        self.history = History(account.user_id)
        self.token: str | None = None
        self.tenant_id = account.home
        self._tokens: set[str] = set()
        self.url = url or ground.url
        self._secret = ground.secret
        # An address of its own for each: what is limited by address must not be limited by all of us together.
        address = f"127.{1 + index // 60000}.{index // 250 % 240}.{1 + index % 250}"
        self._address = address
        transport = httpx.AsyncHTTPTransport(local_address=address, retries=0)
        self._http = httpx.AsyncClient(timeout=40, trust_env=False, transport=transport)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def hear(self, document: str, variables: Json | None = None, *, token: str | None = None) -> Json:
        """One answer, whatever it is; httpx.TransportError where there is none."""
        token = token or self.token
        headers = {"authorization": f"Bearer {token}"} if token else {}
        body = {"query": document, "variables": variables or {}}
        answer = await self._http.post(f"{self.url}/graphql", json=body, headers=headers)
        told: Json = answer.json()
        return told

    async def ask(self, document: str, variables: Json | None = None, *, seconds: float = 120) -> Json:
        """The data, asked again while it is worth it. Raises Refused, and TimeoutError after so many seconds."""
        async with asyncio.timeout(seconds):
            while True:
                with suppress(httpx.TransportError, json.JSONDecodeError):
                    answer = await self.hear(document, variables)
                    if not answer.get("errors"):
                        data: Json = answer["data"]
                        return data
                    error = answer["errors"][0]
                    if error.get("extensions", {}).get("code") not in RETRYABLE:
                        raise Refused(error)
                    await asyncio.sleep(min(5.0, error["extensions"].get("retryAfter") or 0.2))
                await asyncio.sleep(0.3)

    async def sign_in(self) -> None:
        """A login that nothing is planned for."""
        for _ in range(MOST_TRIES):
            _, last = await self.log_in(uuid4().hex)
            if last == "COMPLETED":
                return
        raise AssertionError(f"{self.account.email} cannot log in: {last}")

    async def come_back(self, *, by_signing_in: bool) -> None:
        """After a switch of its was terminated that had ended its session: the repair opens it again."""
        async with _saying(f"{self.account.email} was not let back in", 120):
            if by_signing_in:
                await self.sign_in()
            while (tenant_id := await self.works_in()) is None:  # noqa: ASYNC110 - what is waited for is elsewhere
                await asyncio.sleep(0.5)
        self.tenant_id = tenant_id

    async def log_in(self, key: str) -> tuple[str, str]:
        """Return the operation and its last status; after a success the actor works with the new session."""
        wanted = {"email": self.account.email, "password": PASSWORD, "idempotencyKey": key, "waitSeconds": 0}
        operation, status = await self._changing_session(LOG_IN, "login", wanted, key)
        if status == "COMPLETED":
            self.tenant_id = await self.works_in() or self.tenant_id
        return operation, status

    async def switch(self, key: str) -> tuple[str, str]:
        there = self.account.other if self.tenant_id == self.account.home else self.account.home
        wanted = {"tenantId": there, "idempotencyKey": key, "waitSeconds": 0}
        operation, status = await self._changing_session(SWITCH, "switchTenant", wanted, key)
        if status == "COMPLETED":
            self.tenant_id = there
        return operation, status

    async def onboard(self, key: str) -> tuple[str, str]:
        newcomer = {"email": f"{key}@example.com", "name": f"New {key[:6]}", "password": PASSWORD}
        return await self._running(ONBOARD, "onboardUser", newcomer, key)

    async def upload(self, key: str) -> tuple[str, str]:
        return await self._running(UPLOAD, "completeUpload", {"uploadId": await self.staged()}, key)

    async def process(self, key: str) -> tuple[str, str]:
        file_id = await self.file_of(key)
        return await self._running(PROCESS, "processFile", {"fileId": file_id}, key)

    async def file_of(self, key: str) -> str:
        """A file that is there; its upload may fail with a worker that dies of something else, and is begun again."""
        upload_id = await self.staged()
        for number in range(MOST_TRIES):
            wanted = {"uploadId": upload_id, "idempotencyKey": f"file {number} for {key}", "waitSeconds": 0}
            made = (await self.ask(UPLOAD, {"input": wanted}))["completeUpload"]["operation"]["id"]
            self._acknowledged(made, f"file {number} for {key}")
            if await self.follow(made) == "COMPLETED":
                break
        whole = await self.ask(COMPLETE, {"input": wanted | {"waitSeconds": 5}})
        file_id: str = whole["completeUpload"]["operation"]["result"]["file"]["id"]
        return file_id

    async def staged(self) -> str:
        """An upload whose bytes have arrived."""
        new = {"name": "notes.txt", "contentType": "text/plain", "size": len(CONTENT)}
        new |= {"checksum": hashlib.sha256(CONTENT).hexdigest()}
        target = (await self.ask(CREATE, {"input": new}))["createUpload"]["upload"]
        headers = {header["name"]: header["value"] for header in target["headers"]}
        async with asyncio.timeout(120):
            while True:
                with suppress(httpx.TransportError):
                    sent = await self._http.put(target["url"], content=CONTENT, headers=headers)
                    if sent.status_code == httpx.codes.OK:
                        upload_id: str = target["id"]
                        return upload_id
                await asyncio.sleep(0.3)

    async def play(self, kind: OperationKind, key: str) -> tuple[str, str]:
        plays = {
            OperationKind.LOGIN: self.log_in,
            OperationKind.TENANT_SWITCH: self.switch,
            OperationKind.FILE_UPLOAD: self.upload,
            OperationKind.FILE_PROCESSING: self.process,
            OperationKind.USER_ONBOARDING: self.onboard,
        }
        return await plays[kind](key)

    def id_of(self, kind: OperationKind, key: str) -> str:
        """Of the operation that will be started with this key, so that something can be planned for it."""
        alone = kind in (OperationKind.LOGIN, OperationKind.TENANT_SWITCH)
        tenant_id = "" if alone else self.tenant_id
        return operation_id(self._secret, kind, tenant_id=tenant_id, user_id=self.account.user_id, key=key)

    async def cancel(self, operation: str) -> None:
        with suppress(Refused):  # it closed, and with its session's end it may not be ours any more
            await self.ask(CANCEL, {"input": {"id": operation}})

    async def follow(self, operation: str, *, seconds: float = 300) -> str:
        """Its last status, over as many connections as it takes; noted state by state."""
        following = Following(operation)
        self.history.followed.append(following)
        token = self.token
        cursors = Cursors(SecretKeys(self._secret))
        async with _saying(f"{operation} was not followed to its end", seconds):
            while not following.complete:
                with suppress(OSError, WebSocketException, TimeoutError, ConnectionError):
                    await self._follow_once(following, cursors, token)
                if not following.complete:
                    await asyncio.sleep(0.3)
        return following.states[-1].status

    async def is_told_undone(self, operation: str) -> bool:
        """Whether the client is told that all is taken back of an operation that did not complete."""
        error = (await self.ask(UNDONE, {"id": operation}))["operation"]["error"]
        return error is not None and error["compensated"] is True

    async def look(self) -> None:
        """Note what is shown."""
        viewer = (await self.ask(LOOK))["viewer"]
        if viewer is None:
            return
        tenant_id = viewer["tenantOverview"]["currentTenant"]["id"]
        things = [viewer["user"], *viewer["tenantOverview"]["availableTenants"]]
        things += [*viewer["files"]["nodes"], *viewer["operations"]["nodes"]]
        self.history.seen.extend(Seen(thing["id"], tenant_id) for thing in things)

    async def works_in(self) -> str | None:
        """The tenant that the session is in; None where it opens nothing."""
        viewer = (await self.ask(WHO))["viewer"]
        tenant_id: str | None = viewer and viewer["tenantOverview"]["currentTenant"]["id"]
        return tenant_id

    async def try_tokens(self) -> None:
        """Note what each token that there ever was opens now."""
        mine = self.token
        for token in self._tokens:
            self.token = token
            self.history.tokens.append(Token(token_hash(token), await self.works_in()))
        self.token = mine

    async def _changing_session(self, document: str, field: str, wanted: Json, key: str) -> tuple[str, str]:
        answer = (await self.ask(document, {"input": wanted}))[field]
        operation: str = answer["operation"]["id"]
        self._acknowledged(operation, key)
        token = answer["sessionToken"]  # null after a switch to the current tenant, which changes nothing
        if token is not None:
            self._tokens.add(token)
        status = await self.follow(operation)
        if status == "COMPLETED" and token is not None:
            self.token = token
        return operation, status

    async def _running(self, document: str, field: str, wanted: Json, key: str) -> tuple[str, str]:
        answer = await self.ask(document, {"input": wanted | {"idempotencyKey": key, "waitSeconds": 0}})
        operation: str = answer[field]["operation"]["id"]
        self._acknowledged(operation, key)
        return operation, await self.follow(operation)

    def _acknowledged(self, operation: str, key: str) -> None:
        self.history.acknowledged.append(Acknowledged(operation, key))

    async def _follow_once(self, following: Following, cursors: Cursors, token: str | None) -> None:
        address = f"ws{self.url.removeprefix('http')}/graphql"
        protocols = [Subprotocol("graphql-transport-ws")]
        async with connect(address, subprotocols=protocols, proxy=None, local_addr=(self._address, 0)) as socket:
            following.connections += 1
            await socket.send(json.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {token}"}}))
            variables = {"id": following.operation_id, "after": following.cursor}
            query = {"query": FOLLOW, "variables": variables}
            await socket.recv()
            await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": query}))
            began = time.monotonic()
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
                    position = cursors.read(following.operation_id, following.cursor)
                    following.states.append(Told(state["status"], tuple(position.model_dump().values())))
                    if following.states[-1].is_end:
                        following.complete = True
                        return
                elif message["type"] in ("next", "error"):
                    if time.monotonic() - began < 1:
                        await asyncio.sleep(0.5)
                    return

"""Personal data and secrets occur where they belong, and not in logs, histories, Redis, metrics or spans."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import asyncpg
import httpx
import pytest
from google.protobuf.json_format import MessageToJson
from pyotp import parse_uri
from pyotp.totp import TOTP
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.client import Client as Temporal
from websockets.asyncio.client import connect as connect_socket
from websockets.typing import Subprotocol

from contracts.base import is_id
from contracts.operations import ATTRIBUTE_KIND, ATTRIBUTE_TENANTS, ATTRIBUTE_USER, OperationKind, kind_of
from infrastructure.temporal.codec import KeyRing
from infrastructure.temporal.connection import connect
from tests.end_to_end.client import Client, Json
from tests.end_to_end.files import complete_upload, create_upload, process_file, send_bytes
from tests.end_to_end.test_contract_onboarding import LOGIN, ONBOARD, RETRY, SUBMIT
from tests.security.canaries import find_canaries, new_canary
from tests.security.messages import messages_in
from tests.security.production import Production, create_two_tenants, production
from tests.stack import Stack

FOLLOW = "subscription ($id: ID!) { operation(id: $id) { status } }"
VIEWER = """
{ viewer {
  user { email name } session { id } sessions { id } preferences { timezone } operations { totalCount }
  dashboard { profile { email name } tenant { name } recentFiles { name downloadUrl } activeOperations { id } }
  tenantOverview { availableTenants { name } } files { nodes { name owner { email } downloadUrl metadata } }
} }
"""


@pytest.fixture
def product(tmp_path: Path) -> Iterator[Production]:
    """The production stack of this test."""
    with production(tmp_path) as running:
        yield running


async def test_twenty_canaries_occur_only_where_they_belong(product: Production) -> None:
    canaries = await plant(product.stack)
    assert len(canaries) >= 20

    leaks = {
        "histories": find_canaries(canaries, await raw_histories(product)),
        "Temporal's database": find_canaries(canaries, read_files(product.temporal_database.parent, "temporal.db*")),
        "logs": find_canaries(canaries, read_files(product.logs, "*")),
        "Redis": find_canaries(canaries, [product.redis_commands.read_bytes()]),
        "metrics": find_canaries(canaries, [text async for text in metrics(product)]),
        "spans": find_canaries(canaries, tuple(product.collector.bodies)),
    }
    assert leaks == {name: set() for name in leaks}

    assert find_canaries(canaries, read_files(product.stack.data_dir / "files", "**/*")) == {"file bytes"}
    in_emails = find_canaries(canaries, read_files(product.stack.data_dir / "mail", "**/*"))
    assert in_emails >= {"new user's e-mail", "new user's name"}
    in_database = find_canaries(canaries, [await database_content(product.stack)])
    assert in_database >= {"owner's e-mail", "owner's name", "new user's e-mail", "tenant's name", "file's name"}
    assert not in_database & {name for name in canaries if "password" in name or "token" in name or "TOTP" in name}
    in_decoded_histories = find_canaries(canaries, await decoded_histories(product))
    assert in_decoded_histories >= {"new user's e-mail", "new user's name", "TOTP seed", "MFA code", "wrong MFA code"}
    assert not in_decoded_histories & {name for name in canaries if "password" in name or "token" in name}
    assert {"mutation onboardUser", "RunActivity:create_session"} <= {span.name for span in product.collector.spans()}
    assert b"auth:session:" in product.redis_commands.read_bytes(), "no commands of Redis were recorded"
    await check_that_search_attributes_are_ids(product.stack)
    await check_that_payloads_are_encrypted(product.stack)


def test_finds_a_canary_in_every_encoding() -> None:
    canary = {"it": new_canary("x")}
    for text in (canary["it"], canary["it"].encode().hex(), f'"{canary["it"]}"'):
        assert find_canaries(canary, [b"before " + text.encode() + b" after"]) == {"it"}
    for before in (b"", b"a", b"ab", b"abc"):
        assert find_canaries(canary, [base64.b64encode(before + canary["it"].encode() + b"zz")]) == {"it"}
    assert find_canaries(canary, [new_canary("x").encode()]) == set()


async def plant(stack: Stack) -> dict[str, str]:
    """Execute the whole contract with canaries as data; return them by name."""
    canaries = {
        name: new_canary(name.title().replace(" ", "").replace("'", "").replace("-", ""))
        for name in (
            "owner's password",
            "new user's password",
            "wrong password",
            "password in a document",
            "password in what is no JSON",
            "owner's name",
            "new user's name",
            "tenant's name",
            "second tenant's name",
            "file's name",
            "file bytes",
            "idempotency key",
            "unknown token",
            "unknown token of a socket",
            "unknown token of an upload",
        )
    }
    emails = {
        name: f"{new_canary('mail')}@mail.test" for name in ("owner's e-mail", "new user's e-mail", "unknown e-mail")
    }
    canaries |= emails
    second_tenant_id = await create_two_tenants(
        stack,
        names=(canaries["tenant's name"], canaries["second tenant's name"]),
        email=canaries["owner's e-mail"],
        name=canaries["owner's name"],
        password=canaries["owner's password"],
    )
    owner = Client(stack)
    canaries["session token"] = owner.token = await log_in(
        owner, canaries["owner's e-mail"], canaries["owner's password"]
    )
    for email, password in (("owner's e-mail", "wrong password"), ("unknown e-mail", "wrong password")):
        response = await owner.execute_unchecked(LOGIN, email=canaries[email], password=canaries[password])
        assert response["errors"][0]["extensions"]["code"] == "INVALID_CREDENTIALS"
    await onboard_and_sign_in(stack, owner, canaries)
    await upload_and_process(owner, canaries)
    await send_refused_requests(stack, canaries)
    await query_viewer(owner)
    _, canaries["token after a switch"] = await owner.switch_tenant(second_tenant_id)
    new_session = Client(stack, canaries["token after a switch"])
    await query_viewer(new_session)
    session = (await query_viewer(new_session))["viewer"]["session"]["id"]
    await new_session.execute_unchecked(
        "mutation ($id: ID!) { revokeSession(input: {sessionId: $id}) { ok } }", id=session
    )
    await new_session.execute_unchecked("mutation { logout { ok } }")
    return canaries


async def query_viewer(client: Client) -> Json:
    """Query every field of the viewer; repeat the query while a source of the dashboard times out."""
    async with asyncio.timeout(60):
        while "errors" in (response := await client.execute_unchecked(VIEWER)):
            assert {error["extensions"]["code"] for error in response["errors"]} == {"TIMEOUT"}, response
    return cast("Json", response["data"])


async def log_in(client: Client, email: str, password: str) -> str:
    """Log in and return the session token."""
    response = (await client.execute(LOGIN, email=email, password=password))["login"]
    assert response["operation"]["status"] == "COMPLETED", response
    token: str = response["sessionToken"]
    return token


async def onboard_and_sign_in(stack: Stack, owner: Client, canaries: dict[str, str]) -> None:
    """Onboard a user who then signs in with a second factor; others fail because the address is in use."""
    new_user_input = {
        "email": canaries["new user's e-mail"],
        "name": canaries["new user's name"],
        "password": canaries["new user's password"],
        "mfaEnabled": True,
        "idempotencyKey": canaries["idempotency key"],
        "waitSeconds": 30,
    }
    onboarded = (await owner.execute(ONBOARD, input=new_user_input))["onboardUser"]
    assert onboarded["operation"]["status"] == "COMPLETED", onboarded
    seed = parse_uri(onboarded["totpUri"])
    assert isinstance(seed, TOTP)
    canaries["TOTP seed"] = seed.secret
    failed_requests = [
        owner.execute_unchecked(ONBOARD, input=new_user_input | {"idempotencyKey": new_canary("again")})
        for _ in range(3)
    ]
    failed = [response["data"]["onboardUser"]["operation"] for response in await asyncio.gather(*failed_requests)]
    assert {operation["status"] for operation in failed} == {"FAILED"}
    await owner.execute_unchecked(RETRY, id=failed[0]["id"])

    new_user = Client(stack)
    response = (await new_user.execute(LOGIN, email=new_user_input["email"], password=new_user_input["password"]))[
        "login"
    ]
    canaries["new user's session token"] = new_user.token = response["sessionToken"]
    login = response["operation"]["id"]
    code = seed.now()
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    canaries["wrong MFA code"], canaries["MFA code"] = f'"{wrong}"', f'"{code}"'
    refused = await new_user.error_of(SUBMIT, id=login, code=wrong)
    assert refused["code"] == "INVALID_CREDENTIALS"
    submitted = (await new_user.execute(SUBMIT, id=login, code=code))["submitMfaCode"]["operation"]
    assert submitted["status"] == "COMPLETED"


async def upload_and_process(owner: Client, canaries: dict[str, str]) -> None:
    """Upload, process and download a file, then upload a file with a wrong checksum."""
    content = (canaries["file bytes"] + "\n").encode() * 50
    target = await create_upload(owner, content, name=canaries["file's name"])
    canaries["token of an upload"] = target["url"].rpartition("/")[2].rpartition(".")[2]
    assert (await send_bytes(target, content)).status_code == 200
    file = (await complete_upload(owner, target["id"]))["result"]["file"]
    await process_file(owner, file["id"])
    canaries["token of a download"] = file["downloadUrl"].rpartition("/")[2].rpartition(".")[2]
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(file["downloadUrl"])).content == content
    damaged = await create_upload(owner, content, checksum=hashlib.sha256(b"other").hexdigest())
    await send_bytes(damaged, content)
    await complete_upload(owner, damaged["id"])


async def send_refused_requests(stack: Stack, canaries: dict[str, str]) -> None:
    """Send canaries in requests that are refused, which must not be logged either."""
    inline = (
        f'mutation {{ login(input: {{email: "a@b.test", password: "{canaries["password in a document"]}"}}) {{ no }} }}'
    )
    async with httpx.AsyncClient(trust_env=False) as http:
        await http.post(stack.graphql, json={"query": inline})
        await http.post(stack.graphql, json={"query": inline + "{"})
        await http.post(stack.graphql, content=b"{" + canaries["password in what is no JSON"].encode())
        bearer = {"authorization": f"Bearer {canaries['unknown token']}"}
        await http.post(stack.graphql, json={"query": VIEWER}, headers=bearer)
        await http.put(f"{stack.url}/uploads/{canaries['unknown token of an upload']}", content=b"x")
        await http.get(f"{stack.url}/downloads/{canaries['unknown token of an upload']}")
    async with connect_socket(
        stack.websocket, subprotocols=[Subprotocol("graphql-transport-ws")], proxy=None
    ) as socket:
        token = canaries["unknown token of a socket"]
        await socket.send(json.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {token}"}}))
        await socket.recv()
        payload = {"query": FOLLOW, "variables": {"id": f"login-{'0' * 32}"}}
        await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
        await socket.recv()


async def raw_histories(product: Production) -> list[bytes]:
    """Return histories and visibility records as a caller of Temporal without the keys reads them."""
    return await _histories(await connect(address=product.stack.temporal_address, namespace=None, keys=None))


async def decoded_histories(product: Production) -> list[bytes]:
    """Return all payloads, decrypted with the keys."""
    keys = KeyRing.parse(product.stack.environment["CODEC_KEYS"])
    client = await connect(address=product.stack.temporal_address, namespace=None, keys=keys)
    assert client.data_converter.payload_codec is not None
    texts = []
    async for execution in client.list_workflows():
        async for event in client.get_workflow_handle(execution.id).fetch_history_events():
            plain = await client.data_converter.payload_codec.decode(
                [message for message in messages_in(event) if isinstance(message, Payload)]
            )
            texts += [payload.data for payload in plain]
    return texts


async def _histories(client: Temporal) -> list[bytes]:
    texts = []
    async for execution in client.list_workflows():
        texts.append(execution.raw_info.SerializeToString())
        handle = client.get_workflow_handle(execution.id)
        texts.append((await handle.describe()).raw_description.SerializeToString())
        async for event in handle.fetch_history_events():
            texts += [event.SerializeToString(), MessageToJson(event).encode()]
    assert len(texts) > 200
    return texts


async def check_that_search_attributes_are_ids(stack: Stack) -> None:
    """Check that search attributes contain only kinds and ids."""
    client = await Temporal.connect(stack.temporal_address)
    async for execution in client.list_workflows():
        assert kind_of(execution.id) is not None
        attributes = execution.search_attributes
        assert set(attributes) <= {ATTRIBUTE_KIND, ATTRIBUTE_USER, ATTRIBUTE_TENANTS, "BuildIds"}, attributes
        assert all(OperationKind(str(kind)) for kind in attributes[ATTRIBUTE_KIND])
        assert all(is_id(str(user), "usr") for user in attributes[ATTRIBUTE_USER])
        assert all(is_id(str(tenant), "ten") for tenant in attributes.get(ATTRIBUTE_TENANTS, ()))


async def check_that_payloads_are_encrypted(stack: Stack) -> None:
    """Check that every payload is encrypted and no failure contains a message."""
    client = await Temporal.connect(stack.temporal_address)
    message_counts = Counter[str]()
    async for execution in client.list_workflows():
        handle = client.get_workflow_handle(execution.id)
        events = [event async for event in handle.fetch_history_events()]
        for message in messages_in(execution.raw_info, (await handle.describe()).raw_description, *events):
            if isinstance(message, Payload):
                assert message.metadata["encoding"] == b"binary/encrypted", message
            if isinstance(message, Failure):
                assert (message.message, message.stack_trace) == ("Encoded failure", ""), message
            message_counts[type(message).__name__] += 1
    assert message_counts["Payload"] > 100
    assert message_counts["Failure"] > 3


def read_files(folder: Path, pattern: str) -> list[bytes]:
    """Return the content of all matching files; there must be at least one."""
    read = [file.read_bytes() for file in folder.glob(pattern) if file.is_file()]
    assert read, f"{folder} holds nothing"
    return read


async def metrics(product: Production) -> AsyncIterator[bytes]:
    """Yield the metrics of Temporal and of the gateway."""
    async with httpx.AsyncClient(trust_env=False) as http:
        for url in (product.temporal.metrics, f"{product.stack.url}/metrics"):
            response = await http.get(url)
            if response.status_code == 200:
                yield response.content


async def database_content(stack: Stack) -> bytes:
    """Return all rows of all tables as text."""
    connection = await asyncpg.connect(stack.environment["DATABASE_URL"])
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    rows = [await connection.fetch(f'SELECT t::text FROM "{table["tablename"]}" t') for table in tables]
    await connection.close()
    return "\n".join(row[0] for each in rows for row in each).encode()

"""What people entrust to the product is found where it belongs and nowhere that others read."""

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
from tests.end_to_end.files import announce, complete, process, send
from tests.end_to_end.test_contract_onboarding import LOGIN, ONBOARD, RETRY, SUBMIT
from tests.security.canaries import found, word
from tests.security.messages import messages_in
from tests.security.production import Production, found_two_tenants, production
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
    with production(tmp_path) as running:
        yield running


async def test_twenty_canaries_are_found_where_they_belong_and_nowhere_else(product: Production) -> None:
    planted = await plant(product.stack)
    assert len(planted) >= 20

    spread = {
        "histories": found(planted, await raw_histories(product)),
        "Temporal's database": found(planted, files(product.temporal_database.parent, "temporal.db*")),
        "logs": found(planted, files(product.logs, "*")),
        "Redis": found(planted, [product.told_to_redis.read_bytes()]),
        "metrics": found(planted, [text async for text in metrics(product)]),
        "spans": found(planted, tuple(product.collector.bodies)),
    }
    assert spread == {place: set() for place in spread}

    assert found(planted, files(product.stack.data_dir / "files", "**/*")) == {"file bytes"}
    letters = found(planted, files(product.stack.data_dir / "mail", "**/*"))
    assert letters >= {"new user's e-mail", "new user's name"}
    kept = found(planted, [await whole_database(product.stack)])
    assert kept >= {"owner's e-mail", "owner's name", "new user's e-mail", "tenant's name", "file's name"}
    assert not kept & {name for name in planted if "password" in name or "token" in name or "TOTP" in name}
    decoded = found(planted, await decoded_histories(product))
    assert decoded >= {"new user's e-mail", "new user's name", "TOTP seed", "MFA code", "wrong MFA code"}
    assert not decoded & {name for name in planted if "password" in name or "token" in name}
    assert {"mutation onboardUser", "RunActivity:create_session"} <= {span.name for span in product.collector.spans()}
    assert b"auth:session:" in product.told_to_redis.read_bytes(), "nobody listened to Redis"
    await only_ids_are_searched_by(product.stack)
    await all_else_is_encrypted(product.stack)


def test_a_canary_is_found_however_it_is_written() -> None:
    canary = {"it": word("x")}
    for text in (canary["it"], canary["it"].encode().hex(), f'"{canary["it"]}"'):
        assert found(canary, [b"before " + text.encode() + b" after"]) == {"it"}
    for before in (b"", b"a", b"ab", b"abc"):
        assert found(canary, [base64.b64encode(before + canary["it"].encode() + b"zz")]) == {"it"}
    assert found(canary, [word("x").encode()]) == set()


async def plant(stack: Stack) -> dict[str, str]:
    """Drive the whole contract with these; by what they are."""
    planted = {
        name: word(name.title().replace(" ", "").replace("'", "").replace("-", ""))
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
    emails = {name: f"{word('mail')}@mail.test" for name in ("owner's e-mail", "new user's e-mail", "unknown e-mail")}
    planted |= emails
    there = await found_two_tenants(
        stack,
        names=(planted["tenant's name"], planted["second tenant's name"]),
        email=planted["owner's e-mail"],
        name=planted["owner's name"],
        password=planted["owner's password"],
    )
    owner = Client(stack)
    planted["session token"] = owner.token = await logged_in(
        owner, planted["owner's e-mail"], planted["owner's password"]
    )
    for email, password in (("owner's e-mail", "wrong password"), ("unknown e-mail", "wrong password")):
        answer = await owner.hear(LOGIN, email=planted[email], password=planted[password])
        assert answer["errors"][0]["extensions"]["code"] == "INVALID_CREDENTIALS"
    await people(stack, owner, planted)
    await bytes_of_files(owner, planted)
    await nonsense(stack, planted)
    await query_viewer(owner)
    _, planted["token after a switch"] = await owner.switched(there)
    again = Client(stack, planted["token after a switch"])
    await query_viewer(again)
    session = (await query_viewer(again))["viewer"]["session"]["id"]
    await again.hear("mutation ($id: ID!) { revokeSession(input: {sessionId: $id}) { ok } }", id=session)
    await again.hear("mutation { logout { ok } }")
    return planted


async def query_viewer(client: Client) -> Json:
    """Query every field of the viewer; repeat the query while a source of the dashboard exceeds its one second."""
    async with asyncio.timeout(60):
        while "errors" in (answer := await client.hear(VIEWER)):
            assert {error["extensions"]["code"] for error in answer["errors"]} == {"TIMEOUT"}, answer
    return cast("Json", answer["data"])


async def logged_in(client: Client, email: str, password: str) -> str:
    answer = (await client.ask(LOGIN, email=email, password=password))["login"]
    assert answer["operation"]["status"] == "COMPLETED", answer
    token: str = answer["sessionToken"]
    return token


async def people(stack: Stack, owner: Client, planted: dict[str, str]) -> None:
    """Somebody is taken in, and signs in with a second factor; others are not, for their address is taken."""
    person = {
        "email": planted["new user's e-mail"],
        "name": planted["new user's name"],
        "password": planted["new user's password"],
        "mfaEnabled": True,
        "idempotencyKey": planted["idempotency key"],
        "waitSeconds": 30,
    }
    onboarded = (await owner.ask(ONBOARD, input=person))["onboardUser"]
    assert onboarded["operation"]["status"] == "COMPLETED", onboarded
    seed = parse_uri(onboarded["totpUri"])
    assert isinstance(seed, TOTP)
    planted["TOTP seed"] = seed.secret
    others = [owner.hear(ONBOARD, input=person | {"idempotencyKey": word("again")}) for _ in range(3)]
    failed = [answer["data"]["onboardUser"]["operation"] for answer in await asyncio.gather(*others)]
    assert {operation["status"] for operation in failed} == {"FAILED"}
    await owner.hear(RETRY, id=failed[0]["id"])

    new_user = Client(stack)
    answer = (await new_user.ask(LOGIN, email=person["email"], password=person["password"]))["login"]
    planted["new user's session token"] = new_user.token = answer["sessionToken"]
    login = answer["operation"]["id"]
    code = seed.now()
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    planted["wrong MFA code"], planted["MFA code"] = f'"{wrong}"', f'"{code}"'
    refused = await new_user.refused(SUBMIT, id=login, code=wrong)
    assert refused["code"] == "INVALID_CREDENTIALS"
    submitted = (await new_user.ask(SUBMIT, id=login, code=code))["submitMfaCode"]["operation"]
    assert submitted["status"] == "COMPLETED"


async def bytes_of_files(owner: Client, planted: dict[str, str]) -> None:
    content = (planted["file bytes"] + "\n").encode() * 50
    target = await announce(owner, content, name=planted["file's name"])
    planted["token of an upload"] = target["url"].rpartition("/")[2].rpartition(".")[2]
    assert (await send(target, content)).status_code == 200
    file = (await complete(owner, target["id"]))["result"]["file"]
    await process(owner, file["id"])
    planted["token of a download"] = file["downloadUrl"].rpartition("/")[2].rpartition(".")[2]
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(file["downloadUrl"])).content == content
    damaged = await announce(owner, content, checksum=hashlib.sha256(b"other").hexdigest())
    await send(damaged, content)
    await complete(owner, damaged["id"])


async def nonsense(stack: Stack, planted: dict[str, str]) -> None:
    """What is refused, and must not be written down either."""
    inline = (
        f'mutation {{ login(input: {{email: "a@b.test", password: "{planted["password in a document"]}"}}) {{ no }} }}'
    )
    async with httpx.AsyncClient(trust_env=False) as http:
        await http.post(stack.graphql, json={"query": inline})
        await http.post(stack.graphql, json={"query": inline + "{"})
        await http.post(stack.graphql, content=b"{" + planted["password in what is no JSON"].encode())
        bearer = {"authorization": f"Bearer {planted['unknown token']}"}
        await http.post(stack.graphql, json={"query": VIEWER}, headers=bearer)
        await http.put(f"{stack.url}/uploads/{planted['unknown token of an upload']}", content=b"x")
        await http.get(f"{stack.url}/downloads/{planted['unknown token of an upload']}")
    async with connect_socket(
        stack.websocket, subprotocols=[Subprotocol("graphql-transport-ws")], proxy=None
    ) as socket:
        token = planted["unknown token of a socket"]
        await socket.send(json.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {token}"}}))
        await socket.recv()
        payload = {"query": FOLLOW, "variables": {"id": f"login-{'0' * 32}"}}
        await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
        await socket.recv()


async def raw_histories(product: Production) -> list[bytes]:
    """As whoever may call Temporal reads them, with what visibility shows."""
    return await _histories(await connect(address=product.stack.temporal_address, namespace=None, keys=None))


async def decoded_histories(product: Production) -> list[bytes]:
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


async def only_ids_are_searched_by(stack: Stack) -> None:
    client = await Temporal.connect(stack.temporal_address)
    async for execution in client.list_workflows():
        assert kind_of(execution.id) is not None
        attributes = execution.search_attributes
        assert set(attributes) <= {ATTRIBUTE_KIND, ATTRIBUTE_USER, ATTRIBUTE_TENANTS, "BuildIds"}, attributes
        assert all(OperationKind(str(kind)) for kind in attributes[ATTRIBUTE_KIND])
        assert all(is_id(str(user), "usr") for user in attributes[ATTRIBUTE_USER])
        assert all(is_id(str(tenant), "ten") for tenant in attributes.get(ATTRIBUTE_TENANTS, ()))


async def all_else_is_encrypted(stack: Stack) -> None:
    """Whatever payload there is, and whatever a failure says."""
    client = await Temporal.connect(stack.temporal_address)
    seen = Counter[str]()
    async for execution in client.list_workflows():
        handle = client.get_workflow_handle(execution.id)
        events = [event async for event in handle.fetch_history_events()]
        for message in messages_in(execution.raw_info, (await handle.describe()).raw_description, *events):
            if isinstance(message, Payload):
                assert message.metadata["encoding"] == b"binary/encrypted", message
            if isinstance(message, Failure):
                assert (message.message, message.stack_trace) == ("Encoded failure", ""), message
            seen[type(message).__name__] += 1
    assert seen["Payload"] > 100
    assert seen["Failure"] > 3


def files(folder: Path, pattern: str) -> list[bytes]:
    read = [file.read_bytes() for file in folder.glob(pattern) if file.is_file()]
    assert read, f"{folder} holds nothing"
    return read


async def metrics(product: Production) -> AsyncIterator[bytes]:
    async with httpx.AsyncClient(trust_env=False) as http:
        for url in (product.temporal.metrics, f"{product.stack.url}/metrics"):
            answer = await http.get(url)
            if answer.status_code == 200:
                yield answer.content


async def whole_database(stack: Stack) -> bytes:
    connection = await asyncpg.connect(stack.environment["DATABASE_URL"])
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    rows = [await connection.fetch(f'SELECT t::text FROM "{table["tablename"]}" t') for table in tables]
    await connection.close()
    return "\n".join(row[0] for each in rows for row in each).encode()

"""Each refusal is logged with digests of the client and the account, without addresses and secrets in clear text."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from ipaddress import ip_network
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import structlog
from prometheus_client import generate_latest
from structlog.testing import LogCapture
from websockets.exceptions import ConnectionClosedError

from contracts.auth import Session
from contracts.errors import SessionEnded, StorageQuotaExceeded
from infrastructure.observability.audit import Refusal
from infrastructure.observability.logging import add_context, redact
from infrastructure.observability.monitoring import Monitoring
from infrastructure.observability.pseudonyms import Pseudonyms
from resolvers.tokens import token_hash
from tests.gateway.fakes import ADA, KEY, TOKEN, Services, session, settings
from tests.gateway.live_gateway import Gateway, introduction, running_gateway

EMAIL, PASSWORD = "mallory@attacker.example", "a-guessed-password"
LOGIN = "mutation ($input: LoginInput!) { login(input: $input) { operation { id } } }"
ONBOARD = """mutation { onboardUser(input: {email: "x@y.example", name: "X", password: "another-password"}) {
  operation { id } } }"""
CREATE_UPLOAD = """mutation { createUpload(input: {name: "x.txt", contentType: "text/plain", size: 5}) {
  upload { id } } }"""
ADDRESSES = (f"198.51.100.{number}" for number in count(1))

pseudonyms = Pseudonyms(KEY.encode())


class Attacker:
    """A client with an address that no other test uses."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.address = next(ADDRESSES)

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"x-forwarded-for": self.address} | options.pop("headers", {})
        async with httpx.AsyncClient(base_url=self.gateway.http, timeout=20) as client:
            return await client.request(method, path, headers=headers, **options)

    async def ask(self, query: str, token: str | None = None, **variables: Any) -> Any:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        answer = await self.send("POST", "/graphql", json={"query": query, "variables": variables}, headers=headers)
        return answer.json()

    async def guess(self) -> Any:
        return await self.ask(LOGIN, input={"email": EMAIL, "password": PASSWORD})


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """The logged events after redaction."""
    before, capture = structlog.get_config(), LogCapture()
    structlog.configure(processors=[add_context, redact, capture])
    yield capture.entries
    structlog.configure(**before)


@pytest.fixture
def monitoring() -> Monitoring:
    return Monitoring()


@pytest.fixture
async def gateway(temporal_address: str, tmp_path: Path, monitoring: Monitoring) -> AsyncIterator[Gateway]:
    def full(_caller: object, _body: object) -> None:
        raise StorageQuotaExceeded.for_field("size")

    writer = session().model_copy(update={"permissions": ("files:write",)})

    def find(_caller: object, body: dict[str, Any]) -> Session:
        if body["token_hash"] != token_hash(TOKEN):
            raise SessionEnded()
        return writer

    services = Services({"auth/get_current_session": find, "files/create_upload": full})
    configured = settings(
        temporal_address,
        data_dir=tmp_path,
        trusted_proxies=[ip_network("127.0.0.0/8")],
        rate_limits=True,
        rate_limit_per_address=40,
        max_sockets_per_address=1,
    )
    async with running_gateway(configured, services, monitoring=monitoring) as gateway:
        yield gateway


async def guess_once(attacker: Attacker) -> None:
    await attacker.guess()


async def guess_too_often(attacker: Attacker) -> None:
    for _ in range(11):
        await attacker.guess()


async def ask_too_often(attacker: Attacker) -> None:
    await asyncio.gather(*(attacker.ask("{ __typename }") for _ in range(70)))


async def look_for_an_operation(attacker: Attacker) -> None:
    await attacker.ask(f'{{ operation(id: "login-{uuid4().hex}") {{ id }} }}')


async def look_for_many(attacker: Attacker) -> None:
    ids = [f"login-{uuid4().hex}" for _ in range(30)]
    await attacker.ask("query ($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=ids)


async def onboard_without_permission(attacker: Attacker) -> None:
    await attacker.ask(ONBOARD, TOKEN)


async def act_without_session(attacker: Attacker) -> None:
    await attacker.ask(CREATE_UPLOAD)


async def store_too_much(attacker: Attacker) -> None:
    await attacker.ask(CREATE_UPLOAD, TOKEN)


async def come_from_another_page(attacker: Attacker) -> None:
    await attacker.send("POST", "/graphql", json={"query": "{ a }"}, headers={"origin": "https://evil.example"})


async def send_a_form(attacker: Attacker) -> None:
    await attacker.send("POST", "/graphql", content=b"query=1", headers={"cookie": "a=b"})


async def send_too_much(attacker: Attacker) -> None:
    await attacker.send("POST", "/graphql", content=b" " * 300_000, headers={"content-type": "application/json"})


async def forge_a_transfer(attacker: Attacker) -> None:
    await attacker.send("PUT", "/uploads/forged", content=b"x")


async def ask_too_much(attacker: Attacker) -> None:
    aliases = " ".join(f"a{n}: viewer {{ user {{ id }} }}" for n in range(20))
    await attacker.ask(f"{{ {aliases} }}")


async def ask_too_expensively(attacker: Attacker) -> None:
    many = " ".join(f"a{n}: nodes(ids: $ids) {{ id }}" for n in range(15))
    await attacker.ask(f"query ($ids: [ID!]!) {{ {many} }}", ids=["x"] * 100)


async def open_too_many(attacker: Attacker) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(2):
            try:
                await stack.enter_async_context(attacker.gateway.open(headers={"x-forwarded-for": attacker.address}))
            except ConnectionClosedError:
                return
    pytest.fail("the second socket was admitted")


async def renew_with_a_forged_token(attacker: Attacker) -> None:
    async with attacker.gateway.open(introduction(), headers={"x-forwarded-for": attacker.address}) as socket:
        await socket.say({"type": "ping", "payload": {"authorization": "Bearer forged"}})
        await socket.next()


ATTACKS: list[tuple[Callable[[Attacker], Awaitable[None]], Refusal, str | None]] = [
    (guess_once, Refusal.WRONG_PASSWORD, EMAIL),
    (guess_too_often, Refusal.SIGN_IN_THROTTLE, EMAIL),
    (ask_too_often, Refusal.RATE_LIMIT, None),
    (look_for_an_operation, Refusal.NOT_FOUND, None),
    (look_for_many, Refusal.NOT_FOUND, None),
    (onboard_without_permission, Refusal.FORBIDDEN, ADA),
    (act_without_session, Refusal.UNAUTHENTICATED, None),
    (store_too_much, Refusal.STORAGE_QUOTA, ADA),
    (come_from_another_page, Refusal.ORIGIN, None),
    (send_a_form, Refusal.BODY, None),
    (send_too_much, Refusal.BODY, None),
    (forge_a_transfer, Refusal.FORBIDDEN, None),
    (ask_too_much, Refusal.DOCUMENT, None),
    (ask_too_expensively, Refusal.DOCUMENT, None),
    (open_too_many, Refusal.QUOTA, None),
    (renew_with_a_forged_token, Refusal.UNAUTHENTICATED, None),
]


@pytest.mark.parametrize(("attack", "kind", "account"), ATTACKS, ids=lambda value: getattr(value, "__name__", ""))
async def test_a_refusal_names_client_and_account_by_digests_only(
    gateway: Gateway,
    lines: list[Any],
    monitoring: Monitoring,
    attack: Callable[[Attacker], Awaitable[None]],
    kind: Refusal,
    account: str | None,
) -> None:
    attacker = Attacker(gateway)
    await attack(attacker)
    async with asyncio.timeout(5):
        while True:
            found = [line for line in lines if line["event"] == "audit.refused" and line["refusal"] == kind]
            if found:
                break
            await asyncio.sleep(0.02)

    line = found[-1]
    assert line["client"] == pseudonyms.client(attacker.address)
    assert line.get("account") == (pseudonyms.account(account) if account else None)
    assert line["request_id"]
    written = json.dumps(lines, default=repr)
    for secret in (attacker.address, "127.0.0.1", EMAIL, PASSWORD, TOKEN, KEY, "another-password", "x@y.example"):
        assert secret not in written
    counted = [
        text for text in generate_latest(monitoring.registry).decode().splitlines() if "gateway_refusals_t" in text
    ]
    (own,) = [text for text in counted if f'kind="{kind}"' in text]
    assert float(own.split()[-1]) >= len(found)
    assert all(text.count("=") == 1 for text in counted if not text.startswith("#")), "no label but the kind"


async def test_a_request_with_many_refusals_writes_one_line_with_their_number(
    gateway: Gateway, lines: list[Any]
) -> None:
    await look_for_many(Attacker(gateway))
    (line,) = [line for line in lines if line["event"] == "audit.refused"]
    assert line["count"] == 30


async def test_digests_are_those_of_every_process_with_the_key_and_of_no_other() -> None:
    again, rotated = Pseudonyms(KEY.encode()), Pseudonyms(b"r" * 32)
    assert pseudonyms.client("192.0.2.1") == again.client("192.0.2.1") != rotated.client("192.0.2.1")
    assert pseudonyms.account(EMAIL) == again.account(EMAIL) != rotated.account(EMAIL)
    assert pseudonyms.client(EMAIL) != pseudonyms.account(EMAIL)

"""Each refusal is logged with digests of the client and the account, without addresses and secrets in plain text."""

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
from tests.gateway.fakes import ADA, KEY, TOKEN, FakeServices, session, settings
from tests.gateway.live_gateway import Gateway, authorization, running_gateway

EMAIL, PASSWORD = "mallory@attacker.example", "a-guessed-password"
LOGIN = "mutation ($input: LoginInput!) { login(input: $input) { operation { id } } }"
ONBOARD = """mutation { onboardUser(input: {email: "x@y.example", name: "X", password: "another-password"}) {
  operation { id } } }"""
CREATE_UPLOAD = """mutation { createUpload(input: {name: "x.txt", contentType: "text/plain", size: 5}) {
  upload { id } } }"""
ADDRESSES = (f"198.51.100.{number}" for number in count(1))

pseudonyms = Pseudonyms(KEY.encode())


class Attacker:
    """A client whose address no other test uses."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.address = next(ADDRESSES)

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send an HTTP request from this address."""
        headers = {"x-forwarded-for": self.address} | options.pop("headers", {})
        async with httpx.AsyncClient(base_url=self.gateway.http, timeout=20) as client:
            return await client.request(method, path, headers=headers, **options)

    async def execute(self, query: str, token: str | None = None, **variables: Any) -> Any:
        """Execute a document and return the JSON response."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        response = await self.send("POST", "/graphql", json={"query": query, "variables": variables}, headers=headers)
        return response.json()

    async def try_password(self) -> Any:
        """Log in with a wrong password."""
        return await self.execute(LOGIN, input={"email": EMAIL, "password": PASSWORD})


@pytest.fixture
def log_events() -> Iterator[list[Any]]:
    """The logged events after redaction."""
    before, capture = structlog.get_config(), LogCapture()
    structlog.configure(processors=[add_context, redact, capture])
    yield capture.entries
    structlog.configure(**before)


@pytest.fixture
def monitoring() -> Monitoring:
    """The metrics of the gateway."""
    return Monitoring()


@pytest.fixture
async def gateway(temporal_address: str, tmp_path: Path, monitoring: Monitoring) -> AsyncIterator[Gateway]:
    """A running gateway with rate limits, whose storage quota is exhausted."""

    def refuse_storage(_caller: object, _body: object) -> None:
        raise StorageQuotaExceeded.for_field("size")

    writer_session = session().model_copy(update={"permissions": ("files:write",)})

    def find(_caller: object, body: dict[str, Any]) -> Session:
        if body["token_hash"] != token_hash(TOKEN):
            raise SessionEnded()
        return writer_session

    services = FakeServices({"auth/get_current_session": find, "files/create_upload": refuse_storage})
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


async def try_a_wrong_password(attacker: Attacker) -> None:
    await attacker.try_password()


async def try_too_many_passwords(attacker: Attacker) -> None:
    for _ in range(11):
        await attacker.try_password()


async def send_too_many_requests(attacker: Attacker) -> None:
    await asyncio.gather(*(attacker.execute("{ __typename }") for _ in range(70)))


async def read_an_unknown_operation(attacker: Attacker) -> None:
    await attacker.execute(f'{{ operation(id: "login-{uuid4().hex}") {{ id }} }}')


async def read_many_unknown_operations(attacker: Attacker) -> None:
    ids = [f"login-{uuid4().hex}" for _ in range(30)]
    await attacker.execute("query ($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=ids)


async def onboard_without_permission(attacker: Attacker) -> None:
    await attacker.execute(ONBOARD, TOKEN)


async def create_an_upload_without_session(attacker: Attacker) -> None:
    await attacker.execute(CREATE_UPLOAD)


async def exceed_the_storage_quota(attacker: Attacker) -> None:
    await attacker.execute(CREATE_UPLOAD, TOKEN)


async def send_from_another_origin(attacker: Attacker) -> None:
    await attacker.send("POST", "/graphql", json={"query": "{ a }"}, headers={"origin": "https://evil.example"})


async def send_a_form(attacker: Attacker) -> None:
    await attacker.send("POST", "/graphql", content=b"query=1", headers={"cookie": "a=b"})


async def send_an_oversized_body(attacker: Attacker) -> None:
    await attacker.send("POST", "/graphql", content=b" " * 300_000, headers={"content-type": "application/json"})


async def upload_with_a_forged_token(attacker: Attacker) -> None:
    await attacker.send("PUT", "/uploads/forged", content=b"x")


async def send_too_many_aliases(attacker: Attacker) -> None:
    aliases = " ".join(f"a{n}: viewer {{ user {{ id }} }}" for n in range(20))
    await attacker.execute(f"{{ {aliases} }}")


async def send_an_expensive_document(attacker: Attacker) -> None:
    many_fields = " ".join(f"a{n}: nodes(ids: $ids) {{ id }}" for n in range(15))
    await attacker.execute(f"query ($ids: [ID!]!) {{ {many_fields} }}", ids=["x"] * 100)


async def open_too_many_sockets(attacker: Attacker) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(2):
            try:
                await stack.enter_async_context(attacker.gateway.open(headers={"x-forwarded-for": attacker.address}))
            except ConnectionClosedError:
                return
    pytest.fail("the second socket was admitted")


async def renew_with_a_forged_token(attacker: Attacker) -> None:
    async with attacker.gateway.open(authorization(), headers={"x-forwarded-for": attacker.address}) as socket:
        await socket.send({"type": "ping", "payload": {"authorization": "Bearer forged"}})
        await socket.receive()


ATTACKS: list[tuple[Callable[[Attacker], Awaitable[None]], Refusal, str | None]] = [
    (try_a_wrong_password, Refusal.WRONG_PASSWORD, EMAIL),
    (try_too_many_passwords, Refusal.SIGN_IN_THROTTLE, EMAIL),
    (send_too_many_requests, Refusal.RATE_LIMIT, None),
    (read_an_unknown_operation, Refusal.NOT_FOUND, None),
    (read_many_unknown_operations, Refusal.NOT_FOUND, None),
    (onboard_without_permission, Refusal.FORBIDDEN, ADA),
    (create_an_upload_without_session, Refusal.UNAUTHENTICATED, None),
    (exceed_the_storage_quota, Refusal.STORAGE_QUOTA, ADA),
    (send_from_another_origin, Refusal.ORIGIN, None),
    (send_a_form, Refusal.BODY, None),
    (send_an_oversized_body, Refusal.BODY, None),
    (upload_with_a_forged_token, Refusal.FORBIDDEN, None),
    (send_too_many_aliases, Refusal.DOCUMENT, None),
    (send_an_expensive_document, Refusal.DOCUMENT, None),
    (open_too_many_sockets, Refusal.QUOTA, None),
    (renew_with_a_forged_token, Refusal.UNAUTHENTICATED, None),
]


@pytest.mark.parametrize(("attack", "kind", "account"), ATTACKS, ids=lambda value: getattr(value, "__name__", ""))
async def test_refusal_is_logged_with_digests_of_client_and_account_only(
    gateway: Gateway,
    log_events: list[Any],
    monitoring: Monitoring,
    attack: Callable[[Attacker], Awaitable[None]],
    kind: Refusal,
    account: str | None,
) -> None:
    attacker = Attacker(gateway)
    await attack(attacker)
    async with asyncio.timeout(5):
        while True:
            found = [line for line in log_events if line["event"] == "audit.refused" and line["refusal"] == kind]
            if found:
                break
            await asyncio.sleep(0.02)

    line = found[-1]
    assert line["client"] == pseudonyms.client(attacker.address)
    assert line.get("account") == (pseudonyms.account(account) if account else None)
    assert line["request_id"]
    log_text = json.dumps(log_events, default=repr)
    for secret in (attacker.address, "127.0.0.1", EMAIL, PASSWORD, TOKEN, KEY, "another-password", "x@y.example"):
        assert secret not in log_text
    metric_lines = [
        text for text in generate_latest(monitoring.registry).decode().splitlines() if "gateway_refusals_t" in text
    ]
    (metric_line,) = [text for text in metric_lines if f'kind="{kind}"' in text]
    assert float(metric_line.split()[-1]) >= len(found)
    assert all(text.count("=") == 1 for text in metric_lines if not text.startswith("#")), "the kind is the only label"


async def test_many_refusals_of_one_request_are_logged_in_one_line(gateway: Gateway, log_events: list[Any]) -> None:
    await read_many_unknown_operations(Attacker(gateway))
    (line,) = [line for line in log_events if line["event"] == "audit.refused"]
    assert line["count"] == 30


async def test_digests_depend_only_on_the_key() -> None:
    same_key, rotated = Pseudonyms(KEY.encode()), Pseudonyms(b"r" * 32)
    assert pseudonyms.client("192.0.2.1") == same_key.client("192.0.2.1") != rotated.client("192.0.2.1")
    assert pseudonyms.account(EMAIL) == same_key.account(EMAIL) != rotated.account(EMAIL)
    assert pseudonyms.client(EMAIL) != pseudonyms.account(EMAIL)

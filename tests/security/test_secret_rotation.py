"""Rotation of SECRET_KEY: values signed or derived with a former key stay valid while that key is listed."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from pyotp.totp import TOTP

from infrastructure.signing.secret_keys import SecretKeys
from resolvers.encryption import Encryptor
from tests.end_to_end.client import PASSWORD, Client
from tests.servers import HOST, wait_until
from tests.stack import Stack, is_healthy, start_module
from worker.demo import TOTP_SECRET
from worker.dev.ports import free_port

LOG_IN = """mutation ($email: String!, $password: String!, $key: String) {
  login(input: {email: $email, password: $password, idempotencyKey: $key, waitSeconds: 30}) {
    sessionToken operation { id status cursor }
  }
}"""
SUBMIT = """mutation ($id: ID!, $code: String!) {
  submitMfaCode(input: {operationId: $id, code: $code, waitSeconds: 30}) { sessionToken operation { id status } }
}"""
SWITCH = """mutation ($id: ID!, $key: String) {
  switchTenant(input: {tenantId: $id, idempotencyKey: $key, waitSeconds: 30}) { sessionToken operation { id status } }
}"""
ONBOARD = """mutation ($email: String!, $password: String!, $key: String) {
  onboardUser(input: {email: $email, name: "Linus", password: $password, role: "member", mfaEnabled: true,
                      idempotencyKey: $key, waitSeconds: 30}) { operation { id status } totpUri }
}"""
PAGE = (
    "query ($after: String) { viewer { operations(first: 1, after: $after) { nodes { id } pageInfo { endCursor } } } }"
)
VIEWER_QUERY = "{ viewer { user { email } } }"


class Gateways:
    """Three gateways with the same database: with the former key, with both keys, and with the new key only."""

    def __init__(self, before: Stack, during: Stack, after: Stack) -> None:
        self.before, self.during, self.after = before, during, after


@contextmanager
def gateway(stack: Stack, folder: Path, **others: str) -> Iterator[Stack]:
    """Run another gateway of the stack with these environment variables."""
    port = free_port(HOST)
    log = folder / f"gateway-{port}.log"
    environment = stack.environment | {"GATEWAY_PORT": str(port)} | others
    with start_module("gateway", environment=environment, log=log) as process:
        url = f"http://{HOST}:{port}"
        wait_until(lambda: is_healthy(url), process, log)
        yield replace(stack, url=url, urls=())


@pytest.fixture(scope="module")
def gateways(separate_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateways]:
    """Three gateways that differ only in SECRET_KEY."""
    folder = tmp_path_factory.mktemp("rotation")
    old, new = separate_stack.environment["SECRET_KEY"], secrets.token_hex(32)
    with (
        gateway(separate_stack, folder, SECRET_KEY=f"{new},{old}") as during,
        gateway(separate_stack, folder, SECRET_KEY=new) as after,
    ):
        yield Gateways(separate_stack, during, after)


async def test_repeated_login_returns_the_same_login_after_the_rotation(gateways: Gateways) -> None:
    variables = {"email": "ada@example.com", "password": PASSWORD, "key": uuid4().hex}
    first = (await Client(gateways.before).execute(LOG_IN, **variables))["login"]
    repeated = (await Client(gateways.during).execute(LOG_IN, **variables))["login"]
    assert repeated["operation"]["id"] == first["operation"]["id"]
    assert repeated["sessionToken"] == first["sessionToken"]

    new_login = (await Client(gateways.after).execute(LOG_IN, **variables))["login"]
    assert new_login["operation"]["id"] != first["operation"]["id"], (
        "the earlier login was found without the former key"
    )
    assert new_login["operation"]["status"] == "COMPLETED"


async def test_sessions_stay_valid_without_the_former_key(gateways: Gateways) -> None:
    ada = await signed_in_client(gateways.before)
    for stack in (gateways.during, gateways.after):
        assert (await Client(stack, ada.token).execute(VIEWER_QUERY))["viewer"]["user"]["email"] == "ada@example.com"


async def test_second_factor_can_be_submitted_after_the_rotation(gateways: Gateways) -> None:
    variables = {"email": "alan@example.com", "password": PASSWORD}
    login = (await Client(gateways.before).execute(LOG_IN, **variables))["login"]
    assert login["operation"]["status"] == "WAITING"

    client = Client(gateways.during, login["sessionToken"])
    submitted = (await client.execute(SUBMIT, id=login["operation"]["id"], code=TOTP(TOTP_SECRET).now()))[
        "submitMfaCode"
    ]
    assert submitted["operation"]["status"] == "COMPLETED"
    assert submitted["sessionToken"] == login["sessionToken"]
    assert (await client.execute(VIEWER_QUERY))["viewer"]["user"]["email"] == "alan@example.com"


async def test_repeated_onboarding_is_the_same_and_another_password_conflicts(gateways: Gateways) -> None:
    ada = await signed_in_client(gateways.before)
    variables = {"email": f"{uuid4().hex}@example.com", "password": "a long enough password", "key": uuid4().hex}
    first = (await ada.execute(ONBOARD, **variables))["onboardUser"]
    assert first["operation"]["status"] == "COMPLETED"

    client = Client(gateways.during, ada.token)
    assert (await client.execute(ONBOARD, **variables))["onboardUser"] == first
    error = await client.error_of(ONBOARD, **variables | {"password": "another long password"})
    assert error["code"] == "CONFLICT"


async def test_repeated_switch_with_the_ended_session_returns_the_same_response(gateways: Gateways) -> None:
    ada = await signed_in_client(gateways.before)
    variables = {"id": await ada.tenant_id("Globex"), "key": uuid4().hex}
    first = (await ada.execute(SWITCH, **variables))["switchTenant"]
    assert first["operation"]["status"] == "COMPLETED"
    assert (await Client(gateways.during, ada.token).execute(SWITCH, **variables))["switchTenant"] == first


async def test_reads_former_cursors_while_their_key_is_listed(gateways: Gateways) -> None:
    ada = await signed_in_client(gateways.before)
    page = (await ada.execute(PAGE))["viewer"]["operations"]
    after = page["pageInfo"]["endCursor"]
    expected = await ada.execute(PAGE, after=after)
    repeated = await Client(gateways.during, ada.token).execute(PAGE, after=after)
    assert repeated["viewer"]["operations"]["nodes"] == expected["viewer"]["operations"]["nodes"]
    assert (await Client(gateways.after, ada.token).error_of(PAGE, after=after))["code"] == "BAD_USER_INPUT"

    new_cursor_page = (await Client(gateways.during, ada.token).execute(PAGE))["viewer"]["operations"]["pageInfo"]
    assert new_cursor_page["endCursor"] != after
    await Client(gateways.after, ada.token).execute(PAGE, after=new_cursor_page["endCursor"])


async def test_decrypts_cache_entries_with_each_listed_key() -> None:
    before, during, after = SecretKeys(b"old"), SecretKeys(b"new", (b"old",)), SecretKeys(b"new")
    encrypted = Encryptor(before, "copies").encrypt("text", associated_data="here")
    assert Encryptor(during, "copies").decrypt(encrypted, associated_data="here") == "text"
    assert Encryptor(after, "copies").decrypt(encrypted, associated_data="here") is None
    encrypted = Encryptor(during, "copies").encrypt("text", associated_data="here")
    assert Encryptor(after, "copies").decrypt(encrypted, associated_data="here") == "text"
    assert Encryptor(during, "copies").decrypt(encrypted, associated_data="there") is None


async def signed_in_client(stack: Stack) -> Client:
    """Return a client that is signed in as Ada in Acme."""
    client = Client(stack)
    await client.log_in("ada@example.com")
    await client.ensure_tenant("Acme")
    return client

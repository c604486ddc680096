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
WHO = "{ viewer { user { email } } }"


class Gateways:
    """Three gateways on one database: with the former key, with both keys, and with the new key alone."""

    def __init__(self, before: Stack, during: Stack, after: Stack) -> None:
        self.before, self.during, self.after = before, during, after


@contextmanager
def gateway(stack: Stack, folder: Path, **others: str) -> Iterator[Stack]:
    port = free_port(HOST)
    log = folder / f"gateway-{port}.log"
    environment = stack.environment | {"GATEWAY_PORT": str(port)} | others
    with start_module("gateway", environment=environment, log=log) as process:
        url = f"http://{HOST}:{port}"
        wait_until(lambda: is_healthy(url), process, log)
        yield replace(stack, url=url, urls=())


@pytest.fixture(scope="module")
def gateways(separate_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateways]:
    folder = tmp_path_factory.mktemp("rotation")
    old, new = separate_stack.environment["SECRET_KEY"], secrets.token_hex(32)
    with (
        gateway(separate_stack, folder, SECRET_KEY=f"{new},{old}") as during,
        gateway(separate_stack, folder, SECRET_KEY=new) as after,
    ):
        yield Gateways(separate_stack, during, after)


async def test_a_login_that_is_sent_again_is_the_same_login(gateways: Gateways) -> None:
    variables = {"email": "ada@example.com", "password": PASSWORD, "key": uuid4().hex}
    first = (await Client(gateways.before).ask(LOG_IN, **variables))["login"]
    again = (await Client(gateways.during).ask(LOG_IN, **variables))["login"]
    assert again["operation"]["id"] == first["operation"]["id"]
    assert again["sessionToken"] == first["sessionToken"]

    begun_anew = (await Client(gateways.after).ask(LOG_IN, **variables))["login"]
    assert begun_anew["operation"]["id"] != first["operation"]["id"], (
        "without the former key the earlier login cannot be found"
    )
    assert begun_anew["operation"]["status"] == "COMPLETED"


async def test_who_is_signed_in_stays_so_without_the_former_key(gateways: Gateways) -> None:
    ada = await signed_in(gateways.before)
    for stack in (gateways.during, gateways.after):
        assert (await Client(stack, ada.token).ask(WHO))["viewer"]["user"]["email"] == "ada@example.com"


async def test_a_second_factor_is_passed_after_the_rotation(gateways: Gateways) -> None:
    variables = {"email": "alan@example.com", "password": PASSWORD}
    login = (await Client(gateways.before).ask(LOG_IN, **variables))["login"]
    assert login["operation"]["status"] == "WAITING"

    client = Client(gateways.during, login["sessionToken"])
    passed = (await client.ask(SUBMIT, id=login["operation"]["id"], code=TOTP(TOTP_SECRET).now()))["submitMfaCode"]
    assert passed["operation"]["status"] == "COMPLETED"
    assert passed["sessionToken"] == login["sessionToken"]
    assert (await client.ask(WHO))["viewer"]["user"]["email"] == "alan@example.com"


async def test_an_onboarding_that_is_sent_again_is_the_same_and_another_password_a_conflict(gateways: Gateways) -> None:
    ada = await signed_in(gateways.before)
    variables = {"email": f"{uuid4().hex}@example.com", "password": "a long enough password", "key": uuid4().hex}
    first = (await ada.ask(ONBOARD, **variables))["onboardUser"]
    assert first["operation"]["status"] == "COMPLETED"

    client = Client(gateways.during, ada.token)
    assert (await client.ask(ONBOARD, **variables))["onboardUser"] == first
    refusal = await client.refused(ONBOARD, **variables | {"password": "another long password"})
    assert refusal["code"] == "CONFLICT"


async def test_a_switch_whose_answer_was_lost_is_sent_again_with_the_session_that_it_ended(gateways: Gateways) -> None:
    ada = await signed_in(gateways.before)
    variables = {"id": await ada.tenant("Globex"), "key": uuid4().hex}
    first = (await ada.ask(SWITCH, **variables))["switchTenant"]
    assert first["operation"]["status"] == "COMPLETED"
    assert (await Client(gateways.during, ada.token).ask(SWITCH, **variables))["switchTenant"] == first


async def test_cursors_of_before_are_read_while_their_key_is_kept(gateways: Gateways) -> None:
    ada = await signed_in(gateways.before)
    page = (await ada.ask(PAGE))["viewer"]["operations"]
    after = page["pageInfo"]["endCursor"]
    expected = await ada.ask(PAGE, after=after)
    again = await Client(gateways.during, ada.token).ask(PAGE, after=after)
    assert again["viewer"]["operations"]["nodes"] == expected["viewer"]["operations"]["nodes"]
    assert (await Client(gateways.after, ada.token).refused(PAGE, after=after))["code"] == "BAD_USER_INPUT"

    written_by_the_new = (await Client(gateways.during, ada.token).ask(PAGE))["viewer"]["operations"]["pageInfo"]
    assert written_by_the_new["endCursor"] != after
    await Client(gateways.after, ada.token).ask(PAGE, after=written_by_the_new["endCursor"])


async def test_copies_in_the_cache_are_opened_by_each_listed_key() -> None:
    before, during, after = SecretKeys(b"old"), SecretKeys(b"new", (b"old",)), SecretKeys(b"new")
    sealed = Encryptor(before, "copies").encrypt("text", associated_data="here")
    assert Encryptor(during, "copies").decrypt(sealed, associated_data="here") == "text"
    assert Encryptor(after, "copies").decrypt(sealed, associated_data="here") is None
    sealed = Encryptor(during, "copies").encrypt("text", associated_data="here")
    assert Encryptor(after, "copies").decrypt(sealed, associated_data="here") == "text"
    assert Encryptor(during, "copies").decrypt(sealed, associated_data="there") is None


async def signed_in(stack: Stack) -> Client:
    client = Client(stack)
    await client.log_in("ada@example.com")
    await client.work_in("Acme")
    return client

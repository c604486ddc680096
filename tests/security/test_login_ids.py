"""The id of a login is not a secret: it shows only public fields and allows no changes."""

from __future__ import annotations

import asyncio
import json
import time
from uuid import uuid4

import httpx
import pytest
from pyotp import parse_uri
from pyotp.totp import TOTP
from websockets.asyncio.client import ClientConnection

from gateway.sessions.cookies import COOKIE, LOGIN_COOKIE
from tests.end_to_end.client import PASSWORD, Client, Json, graphql_socket
from tests.stack import Stack

ALL_FIELDS = """
  __typename id kind status startedAt closedAt cursor
  startedBy { id email name } tenant { id name slug subscriptionTier featureFlags { name } }
  error { code message step fields { path message } }
  progress { currentStep steps { name status lastError detail } }
  ... on Login { challenge { method attemptsLeft expiresAt } }
"""
OPERATION = f"query ($id: ID!) {{ operation(id: $id) {{ {ALL_FIELDS} }} }}"
READS = {
    "operation": OPERATION,
    "node": f"query ($id: ID!) {{ node(id: $id) {{ ... on Operation {{ {ALL_FIELDS} }} }} }}",
    "nodes": f"query ($id: ID!) {{ nodes(ids: [$id, $id]) {{ ... on Operation {{ {ALL_FIELDS} }} }} }}",
}
FOLLOW = f"subscription ($id: ID!) {{ operation(id: $id) {{ {ALL_FIELDS} }} }}"
LOGIN = f"""
mutation ($email: String!, $password: String!, $key: String) {{
  login(input: {{email: $email, password: $password, idempotencyKey: $key, waitSeconds: 20}}) {{
    operation {{ {ALL_FIELDS} }} sessionToken viewer {{ user {{ email }} }}
  }}
}}
"""
SUBMIT = f"""
mutation ($id: ID!, $code: String!) {{
  submitMfaCode(input: {{operationId: $id, code: $code, waitSeconds: 20}}) {{
    operation {{ {ALL_FIELDS} }} sessionToken viewer {{ user {{ email }} }}
  }}
}}
"""
CANCEL = f"mutation ($id: ID!) {{ cancelOperation(input: {{id: $id}}) {{ operation {{ {ALL_FIELDS} }} }} }}"
RETRY = "mutation ($id: ID!) { retryOperation(input: {id: $id}) { operation { startedBy { email } } } }"
NOT_FOUND = {"code": "NOT_FOUND"}


class MfaUser:
    """A new user of Acme with a second factor."""

    def __init__(self, email: str, authenticator: TOTP) -> None:
        self.email = email
        self.authenticator = authenticator

    async def log_in(self, client: Client, key: str | None = None) -> Json:
        """Start a login and return its payload."""
        response: Json = (await client.execute(LOGIN, email=self.email, password=PASSWORD, key=key))["login"]
        return response

    async def sign_in(self, stack: Stack) -> tuple[str, str]:
        """Log in with the second factor; return the ids of the login and its session token."""
        payload = await self.log_in(Client(stack))
        client = Client(stack, payload["sessionToken"])
        submitted = await client.execute(SUBMIT, id=payload["operation"]["id"], code=self.authenticator.now())
        assert submitted["submitMfaCode"]["operation"]["status"] == "COMPLETED"
        return payload["operation"]["id"], payload["sessionToken"]


@pytest.fixture
async def ada(dev_stack: Stack) -> Client:
    """A client that is signed in as Ada, an administrator."""
    client = Client(dev_stack)
    await client.log_in("ada@example.com")
    return client


@pytest.fixture
async def mfa_user(ada: Client) -> MfaUser:
    """A new user with a second factor, so that no other test has used its codes."""
    email = f"{uuid4().hex}@example.com"
    document = """
    mutation ($input: OnboardUserInput!) { onboardUser(input: $input) { totpUri operation { status } } }
    """
    new_user = {
        "email": email,
        "name": "Emilie du Chatelet",
        "password": PASSWORD,
        "mfaEnabled": True,
        "waitSeconds": 30,
    }
    response = (await ada.execute(document, input=new_user))["onboardUser"]
    assert response["operation"] == {"status": "COMPLETED"}
    authenticator = parse_uri(response["totpUri"])
    assert isinstance(authenticator, TOTP)
    return MfaUser(email, authenticator)


def operation_in(response: Json) -> Json:
    """Return the only operation of a response without errors."""
    assert "errors" not in response, response
    (found,) = response["data"].values()
    one: Json = found[0] if isinstance(found, list) else found
    operation: Json = one.get("operation", one)
    return operation


def check_public(operation: Json, mfa_user: MfaUser, status: str) -> None:
    """Check that the operation has only the fields that the contract allows to a client that knows only the id."""
    assert (operation["kind"], operation["status"]) == ("LOGIN", status)
    assert operation["startedAt"]
    assert operation["cursor"]
    assert (operation["startedBy"], operation["tenant"]) == (None, None)
    text = json.dumps(operation).lower()
    assert mfa_user.email not in text
    assert "acme" not in text
    assert "usr_" not in text
    assert "ten_" not in text


async def execute_on_socket(socket: ClientConnection, query: str, **variables: object) -> list[Json]:
    """Execute the document on the websocket; return all results until it completes."""
    name, results = uuid4().hex, []
    payload = {"query": query, "variables": variables}
    await socket.send(json.dumps({"id": name, "type": "subscribe", "payload": payload}))
    async with asyncio.timeout(30):
        while (message := json.loads(await socket.recv()))["type"] not in ("complete", "error"):
            if message["type"] == "next":
                results.append(message["payload"])
    if message["type"] == "error":
        results.append({"errors": message["payload"]})
    return results


def codes(response: Json) -> list[str]:
    """Return the error codes of a response."""
    return [error["extensions"]["code"] for error in response.get("errors", ())]


def wrong_code(authenticator: TOTP) -> str:
    """Return a code that is not valid in the current or in adjacent time steps."""
    valid_codes = {authenticator.at(time.time() + 30 * step) for step in range(-3, 4)}
    return next(code for code in (f"{n}" * 6 for n in range(8)) if code not in valid_codes)


@pytest.mark.parametrize(
    "client_kind",
    ["a client without a session", "another user", "an administrator", "a client that is logging in as another"],
)
async def test_id_of_a_login_shows_neither_user_nor_tenant(
    dev_stack: Stack, ada: Client, mfa_user: MfaUser, client_kind: str
) -> None:
    other = Client(dev_stack)
    if client_kind == "another user":
        await other.log_in("grace@example.com")
    elif client_kind == "an administrator":
        other = ada
    elif client_kind == "a client that is logging in as another":
        response = await other.execute(LOGIN, email="alan@example.com", password=PASSWORD, key=None)
        other.token = response["login"]["sessionToken"]
    waiting = (await mfa_user.log_in(Client(dev_stack)))["operation"]["id"]
    completed, token = await mfa_user.sign_in(dev_stack)
    for id, status in ((waiting, "WAITING"), (completed, "COMPLETED")):
        for query in READS.values():
            check_public(operation_in(await other.execute_unchecked(query, id=id)), mfa_user, status)
    async with graphql_socket(dev_stack.websocket, other.token) as socket:
        (last,) = await execute_on_socket(socket, FOLLOW, id=completed)
        check_public(operation_in(last), mfa_user, "COMPLETED")
        (read,) = await execute_on_socket(socket, OPERATION, id=waiting)
        check_public(operation_in(read), mfa_user, "WAITING")

    own_client = Client(dev_stack, token)
    assert (await own_client.execute(OPERATION, id=completed))["operation"]["startedBy"]["email"] == mfa_user.email
    await own_client.execute("mutation { logout { ok } }")
    check_public(operation_in(await own_client.execute_unchecked(OPERATION, id=completed)), mfa_user, "COMPLETED")
    check_public(operation_in(await other.execute_unchecked(OPERATION, id=completed)), mfa_user, "COMPLETED")


async def test_only_the_client_that_started_a_login_submits_codes_and_cancels(
    dev_stack: Stack, ada: Client, mfa_user: MfaUser
) -> None:
    payload = await mfa_user.log_in(Client(dev_stack))
    login, token = payload["operation"]["id"], payload["sessionToken"]
    _, of_another_login = await mfa_user.sign_in(dev_stack)
    alan = (await Client(dev_stack).execute(LOGIN, email="alan@example.com", password=PASSWORD, key=None))["login"]
    for other in (None, "x", "\u00e9", ada.token, alan["sessionToken"], of_another_login):
        headers = {} if other is None else {b"authorization": f"Bearer {other}".encode()}
        async with httpx.AsyncClient(timeout=30) as http:
            for query, variables in ((SUBMIT, {"code": wrong_code(mfa_user.authenticator)}), (CANCEL, {})):
                request = {"query": query, "variables": {"id": login, **variables}}
                response = (await http.post(dev_stack.graphql, json=request, headers=headers)).json()
                assert codes(response) == ["NOT_FOUND"], (other, response)
        if other != "\u00e9":
            async with graphql_socket(dev_stack.websocket, other) as socket:
                assert codes((await execute_on_socket(socket, SUBMIT, id=login, code="000000"))[0]) == ["NOT_FOUND"]
                assert codes((await execute_on_socket(socket, CANCEL, id=login))[0]) == ["NOT_FOUND"]

    state = (await Client(dev_stack).execute(OPERATION, id=login))["operation"]
    assert (state["status"], state["challenge"]["attemptsLeft"]) == ("WAITING", 5)
    async with graphql_socket(dev_stack.websocket, token) as socket:
        (refused,) = await execute_on_socket(socket, SUBMIT, id=login, code=wrong_code(mfa_user.authenticator))
        assert codes(refused) == ["INVALID_CREDENTIALS"]
        (cancelled,) = await execute_on_socket(socket, CANCEL, id=login)
        assert "errors" not in cancelled
    assert (await Client(dev_stack, token).wait_for_final_state(login))["status"] == "CANCELLED"


async def test_existing_and_unknown_logins_are_equally_not_found_without_proof(
    dev_stack: Stack, mfa_user: MfaUser
) -> None:
    login = (await mfa_user.log_in(Client(dev_stack)))["operation"]["id"]
    for id in (login, f"login-{uuid4().hex}"):
        assert await Client(dev_stack).error_of(SUBMIT, id=id, code="000000") == NOT_FOUND
        assert await Client(dev_stack).error_of(CANCEL, id=id) == NOT_FOUND


async def test_cookie_proves_that_a_browser_started_the_login(dev_stack: Stack, mfa_user: MfaUser) -> None:
    async with httpx.AsyncClient(timeout=30) as browser, httpx.AsyncClient(timeout=30) as other:

        async def execute(client: httpx.AsyncClient, query: str, **variables: object) -> httpx.Response:
            return await client.post(dev_stack.graphql, json={"query": query, "variables": variables})

        started = [
            await execute(browser, LOGIN, email=email, password=PASSWORD)
            for email in (mfa_user.email, "alan@example.com")  # the second login is in another tab
        ]
        login = started[0].json()["data"]["login"]["operation"]["id"]
        for response in started:
            (cookie,) = response.headers.get_list("set-cookie")
            assert cookie.startswith(f"{LOGIN_COOKIE}=")
            assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
        assert COOKIE not in browser.cookies
        await execute(other, LOGIN, email="alan@example.com", password=PASSWORD)
        assert codes((await execute(other, SUBMIT, id=login, code="000000")).json()) == ["NOT_FOUND"]
        assert (await execute(browser, "{ viewer { user { email } } }")).json()["data"] == {"viewer": None}

        refused = await execute(browser, SUBMIT, id=login, code=wrong_code(mfa_user.authenticator))
        assert codes(refused.json()) == ["INVALID_CREDENTIALS"]
        async with graphql_socket(
            dev_stack.websocket, headers={"cookie": f"{LOGIN_COOKIE}={browser.cookies[LOGIN_COOKIE]}"}
        ) as socket:
            (submitted,) = await execute_on_socket(socket, SUBMIT, id=login, code=mfa_user.authenticator.now())
            assert submitted["data"]["submitMfaCode"]["operation"]["startedBy"]["email"] == mfa_user.email
            (last,) = await execute_on_socket(socket, FOLLOW, id=login)
            assert operation_in(last)["startedBy"]["email"] == mfa_user.email
        assert COOKIE not in browser.cookies  # a websocket cannot set cookies
        first = await execute(browser, OPERATION, id=login)
        assert first.json()["data"]["operation"]["startedBy"]["email"] == mfa_user.email
        assert browser.cookies[COOKIE] == started[0].json()["data"]["login"]["sessionToken"]
        assert browser.cookies[LOGIN_COOKIE]  # the other login is still waiting
        viewer = (await execute(browser, "{ viewer { user { email } } }")).json()["data"]["viewer"]
        assert viewer == {"user": {"email": mfa_user.email}}

        kept = browser.cookies[LOGIN_COOKIE]
        await execute(browser, "mutation { logout { ok } }")
        assert not browser.cookies.get(LOGIN_COOKIE)
        forged = {"cookie": f"{LOGIN_COOKIE}={started[0].json()['data']['login']['sessionToken']}.{kept}"}
        async with httpx.AsyncClient(headers=forged, timeout=30) as client_with_forged_cookie:
            check_public(
                operation_in((await execute(client_with_forged_cookie, OPERATION, id=login)).json()),
                mfa_user,
                "COMPLETED",
            )


async def test_subscriber_by_id_alone_sees_only_public_fields_while_the_user_follows(
    dev_stack: Stack, mfa_user: MfaUser
) -> None:
    payload = await mfa_user.log_in(Client(dev_stack))
    login, token = payload["operation"]["id"], payload["sessionToken"]
    async with (
        graphql_socket(dev_stack.websocket) as anonymous,
        graphql_socket(dev_stack.websocket) as second_anonymous,
        graphql_socket(dev_stack.websocket, token) as own_client,
        graphql_socket(dev_stack.websocket, headers={"cookie": f"{LOGIN_COOKIE}={token}"}) as by_cookie,
    ):
        following = [
            asyncio.create_task(execute_on_socket(each, FOLLOW, id=login))
            for each in (own_client, by_cookie, anonymous, second_anonymous)
        ]
        await asyncio.sleep(1)
        await Client(dev_stack, token).execute(SUBMIT, id=login, code=mfa_user.authenticator.now())
        own_results, cookie_results, *anonymous_results = [await each for each in following]
    for results in (own_results, cookie_results):
        assert operation_in(results[-1])["startedBy"]["email"] == mfa_user.email
        assert operation_in(results[-1])["tenant"]["slug"] in ("acme", "globex")
    for results in anonymous_results:
        check_public(operation_in(results[-1]), mfa_user, "COMPLETED")
        assert all(operation_in(each)["startedBy"] is None for each in results)


async def test_password_and_idempotency_key_do_not_replace_the_second_factor(
    dev_stack: Stack, mfa_user: MfaUser
) -> None:
    key = uuid4().hex
    payload = await mfa_user.log_in(Client(dev_stack), key)
    login, token = payload["operation"]["id"], payload["sessionToken"]
    assert (await mfa_user.log_in(Client(dev_stack), key))["sessionToken"] == token, (
        "the same key does not return the same token"
    )
    await Client(dev_stack, token).execute(SUBMIT, id=login, code=mfa_user.authenticator.now())
    again = await mfa_user.log_in(Client(dev_stack), key)
    assert (again["sessionToken"], again["viewer"]) == (None, None)
    check_public(again["operation"], mfa_user, "COMPLETED")
    own_login = await mfa_user.log_in(Client(dev_stack, token), key)
    assert (own_login["sessionToken"], own_login["viewer"]) == (token, {"user": {"email": mfa_user.email}})


async def test_another_user_cannot_retry_a_login(dev_stack: Stack, ada: Client, mfa_user: MfaUser) -> None:
    login = (await mfa_user.log_in(Client(dev_stack)))["operation"]["id"]
    assert (await ada.error_of(RETRY, id=login))["code"] in ("CONFLICT", "NOT_FOUND")


async def test_previous_session_of_a_switch_sees_its_users_and_tenants(dev_stack: Stack, ada: Client) -> None:
    here = await ada.current_tenant()
    previous_client = Client(dev_stack, ada.token)
    switch, ada.token = await ada.switch_tenant(await ada.tenant_id("Globex" if here == "Acme" else "Acme"))
    query = """
    query ($id: ID!) { operation(id: $id) {
      status startedBy { email } tenant { name }
      ... on TenantSwitch { fromTenant { name } toTenant { name } result { tenant { name } user { email } } }
    } }
    """
    own_view = await ada.execute(query, id=switch)
    assert own_view["operation"]["startedBy"] == {"email": "ada@example.com"}
    assert await previous_client.execute(query, id=switch) == own_view
    async with graphql_socket(dev_stack.websocket, previous_client.token) as socket:
        (followed,) = await execute_on_socket(socket, query.replace("query", "subscription", 1), id=switch)
        assert followed["data"] == own_view
    other, _ = await ada.start_switch("ten_" + "f" * 32)
    assert (await previous_client.error_of(query, id=other))["code"] == "UNAUTHENTICATED"
    assert (await previous_client.execute("{ viewer { user { email } } }"))["viewer"] is None

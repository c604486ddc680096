"""The id of a login is logged, so it grants no access: it shows public fields only and controls nothing."""

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

EVERYTHING = """
  __typename id kind status startedAt closedAt cursor
  startedBy { id email name } tenant { id name slug subscriptionTier featureFlags { name } }
  error { code message step fields { path message } }
  progress { currentStep steps { name status lastError detail } }
  ... on Login { challenge { method attemptsLeft expiresAt } }
"""
OPERATION = f"query ($id: ID!) {{ operation(id: $id) {{ {EVERYTHING} }} }}"
READS = {
    "operation": OPERATION,
    "node": f"query ($id: ID!) {{ node(id: $id) {{ ... on Operation {{ {EVERYTHING} }} }} }}",
    "nodes": f"query ($id: ID!) {{ nodes(ids: [$id, $id]) {{ ... on Operation {{ {EVERYTHING} }} }} }}",
}
FOLLOW = f"subscription ($id: ID!) {{ operation(id: $id) {{ {EVERYTHING} }} }}"
LOGIN = f"""
mutation ($email: String!, $password: String!, $key: String) {{
  login(input: {{email: $email, password: $password, idempotencyKey: $key, waitSeconds: 20}}) {{
    operation {{ {EVERYTHING} }} sessionToken viewer {{ user {{ email }} }}
  }}
}}
"""
SUBMIT = f"""
mutation ($id: ID!, $code: String!) {{
  submitMfaCode(input: {{operationId: $id, code: $code, waitSeconds: 20}}) {{
    operation {{ {EVERYTHING} }} sessionToken viewer {{ user {{ email }} }}
  }}
}}
"""
CANCEL = f"mutation ($id: ID!) {{ cancelOperation(input: {{id: $id}}) {{ operation {{ {EVERYTHING} }} }} }}"
RETRY = "mutation ($id: ID!) { retryOperation(input: {id: $id}) { operation { startedBy { email } } } }"
NOT_FOUND = {"code": "NOT_FOUND"}


class Person:
    """A new user of Acme with a second factor."""

    def __init__(self, email: str, authenticator: TOTP) -> None:
        self.email = email
        self.authenticator = authenticator

    async def log_in(self, client: Client, key: str | None = None) -> Json:
        answer: Json = (await client.ask(LOGIN, email=self.email, password=PASSWORD, key=key))["login"]
        return answer

    async def sign_in(self, stack: Stack) -> tuple[str, str]:
        """Log in with the second factor; return the ids of the login and its session token."""
        payload = await self.log_in(Client(stack))
        client = Client(stack, payload["sessionToken"])
        opened = await client.ask(SUBMIT, id=payload["operation"]["id"], code=self.authenticator.now())
        assert opened["submitMfaCode"]["operation"]["status"] == "COMPLETED"
        return payload["operation"]["id"], payload["sessionToken"]


@pytest.fixture
async def ada(dev_stack: Stack) -> Client:
    client = Client(dev_stack)
    await client.log_in("ada@example.com")
    return client


@pytest.fixture
async def person(ada: Client) -> Person:
    email = f"{uuid4().hex}@example.com"
    document = """
    mutation ($input: OnboardUserInput!) { onboardUser(input: $input) { totpUri operation { status } } }
    """
    wanted = {"email": email, "name": "Emilie du Chatelet", "password": PASSWORD, "mfaEnabled": True, "waitSeconds": 30}
    answer = (await ada.ask(document, input=wanted))["onboardUser"]
    assert answer["operation"] == {"status": "COMPLETED"}
    authenticator = parse_uri(answer["totpUri"])
    assert isinstance(authenticator, TOTP)
    return Person(email, authenticator)


def shown(answer: Json) -> Json:
    """Return the only operation of an answer without errors."""
    assert "errors" not in answer, answer
    (found,) = answer["data"].values()
    one: Json = found[0] if isinstance(found, list) else found
    operation: Json = one.get("operation", one)
    return operation


def check_public(operation: Json, person: Person, status: str) -> None:
    """Check that the operation has only the fields that the contract allows to a client that knows only the id."""
    assert (operation["kind"], operation["status"]) == ("LOGIN", status)
    assert operation["startedAt"]
    assert operation["cursor"]
    assert (operation["startedBy"], operation["tenant"]) == (None, None)
    text = json.dumps(operation).lower()
    assert person.email not in text
    assert "acme" not in text
    assert "usr_" not in text
    assert "ten_" not in text


async def ask_over(opened: ClientConnection, query: str, **variables: object) -> list[Json]:
    """Execute the document on the websocket; return all results until it completes."""
    name, results = uuid4().hex, []
    payload = {"query": query, "variables": variables}
    await opened.send(json.dumps({"id": name, "type": "subscribe", "payload": payload}))
    async with asyncio.timeout(30):
        while (message := json.loads(await opened.recv()))["type"] not in ("complete", "error"):
            if message["type"] == "next":
                results.append(message["payload"])
    if message["type"] == "error":
        results.append({"errors": message["payload"]})
    return results


def codes(answer: Json) -> list[str]:
    return [error["extensions"]["code"] for error in answer.get("errors", ())]


def wrong(authenticator: TOTP) -> str:
    right = {authenticator.at(time.time() + 30 * step) for step in range(-3, 4)}
    return next(code for code in (f"{n}" * 6 for n in range(8)) if code not in right)


@pytest.mark.parametrize(
    "who", ["a client without a session", "another user", "an administrator", "a client that is logging in as another"]
)
async def test_the_id_of_a_login_shows_neither_user_nor_tenant(
    dev_stack: Stack, ada: Client, person: Person, who: str
) -> None:
    other = Client(dev_stack)
    if who == "another user":
        await other.log_in("grace@example.com")
    elif who == "an administrator":
        other = ada
    elif who == "a client that is logging in as another":
        answer = await other.ask(LOGIN, email="alan@example.com", password=PASSWORD, key=None)
        other.token = answer["login"]["sessionToken"]
    waiting = (await person.log_in(Client(dev_stack)))["operation"]["id"]
    completed, token = await person.sign_in(dev_stack)
    for id, status in ((waiting, "WAITING"), (completed, "COMPLETED")):
        for query in READS.values():
            check_public(shown(await other.hear(query, id=id)), person, status)
    async with graphql_socket(dev_stack.websocket, other.token) as opened:
        (last,) = await ask_over(opened, FOLLOW, id=completed)
        check_public(shown(last), person, "COMPLETED")
        (read,) = await ask_over(opened, OPERATION, id=waiting)
        check_public(shown(read), person, "WAITING")

    mine = Client(dev_stack, token)
    assert (await mine.ask(OPERATION, id=completed))["operation"]["startedBy"]["email"] == person.email
    await mine.ask("mutation { logout { ok } }")
    check_public(shown(await mine.hear(OPERATION, id=completed)), person, "COMPLETED")
    check_public(shown(await other.hear(OPERATION, id=completed)), person, "COMPLETED")


async def test_only_the_client_that_started_a_login_submits_codes_and_cancels(
    dev_stack: Stack, ada: Client, person: Person
) -> None:
    payload = await person.log_in(Client(dev_stack))
    login, token = payload["operation"]["id"], payload["sessionToken"]
    _, of_another_login = await person.sign_in(dev_stack)
    alan = (await Client(dev_stack).ask(LOGIN, email="alan@example.com", password=PASSWORD, key=None))["login"]
    for other in (None, "x", "\u00e9", ada.token, alan["sessionToken"], of_another_login):
        headers = {} if other is None else {b"authorization": f"Bearer {other}".encode()}
        async with httpx.AsyncClient(timeout=30) as http:
            for query, variables in ((SUBMIT, {"code": wrong(person.authenticator)}), (CANCEL, {})):
                request = {"query": query, "variables": {"id": login, **variables}}
                answer = (await http.post(dev_stack.graphql, json=request, headers=headers)).json()
                assert codes(answer) == ["NOT_FOUND"], (other, answer)
        if other != "\u00e9":
            async with graphql_socket(dev_stack.websocket, other) as opened:
                assert codes((await ask_over(opened, SUBMIT, id=login, code="000000"))[0]) == ["NOT_FOUND"]
                assert codes((await ask_over(opened, CANCEL, id=login))[0]) == ["NOT_FOUND"]

    state = (await Client(dev_stack).ask(OPERATION, id=login))["operation"]
    assert (state["status"], state["challenge"]["attemptsLeft"]) == ("WAITING", 5)
    async with graphql_socket(dev_stack.websocket, token) as opened:
        (refused,) = await ask_over(opened, SUBMIT, id=login, code=wrong(person.authenticator))
        assert codes(refused) == ["INVALID_CREDENTIALS"]
        (cancelled,) = await ask_over(opened, CANCEL, id=login)
        assert "errors" not in cancelled
    assert (await Client(dev_stack, token).to_its_end(login))["status"] == "CANCELLED"


async def test_what_needs_proof_is_not_found_alike_for_a_login_that_exists_and_one_that_does_not(
    dev_stack: Stack, person: Person
) -> None:
    login = (await person.log_in(Client(dev_stack)))["operation"]["id"]
    for id in (login, f"login-{uuid4().hex}"):
        assert await Client(dev_stack).refused(SUBMIT, id=id, code="000000") == NOT_FOUND
        assert await Client(dev_stack).refused(CANCEL, id=id) == NOT_FOUND


async def test_a_browser_proves_by_cookie_that_it_started_the_login(dev_stack: Stack, person: Person) -> None:
    async with httpx.AsyncClient(timeout=30) as browser, httpx.AsyncClient(timeout=30) as other:

        async def ask(client: httpx.AsyncClient, query: str, **variables: object) -> httpx.Response:
            return await client.post(dev_stack.graphql, json={"query": query, "variables": variables})

        started = [
            await ask(browser, LOGIN, email=email, password=PASSWORD)
            for email in (person.email, "alan@example.com")  # in another tab
        ]
        login = started[0].json()["data"]["login"]["operation"]["id"]
        for answer in started:
            (cookie,) = answer.headers.get_list("set-cookie")
            assert cookie.startswith(f"{LOGIN_COOKIE}=")
            assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
        assert COOKIE not in browser.cookies
        await ask(other, LOGIN, email="alan@example.com", password=PASSWORD)
        assert codes((await ask(other, SUBMIT, id=login, code="000000")).json()) == ["NOT_FOUND"]
        assert (await ask(browser, "{ viewer { user { email } } }")).json()["data"] == {"viewer": None}

        refused = await ask(browser, SUBMIT, id=login, code=wrong(person.authenticator))
        assert codes(refused.json()) == ["INVALID_CREDENTIALS"]
        async with graphql_socket(
            dev_stack.websocket, headers={"cookie": f"{LOGIN_COOKIE}={browser.cookies[LOGIN_COOKIE]}"}
        ) as opened:
            (done,) = await ask_over(opened, SUBMIT, id=login, code=person.authenticator.now())
            assert done["data"]["submitMfaCode"]["operation"]["startedBy"]["email"] == person.email
            (last,) = await ask_over(opened, FOLLOW, id=login)
            assert shown(last)["startedBy"]["email"] == person.email
        assert COOKIE not in browser.cookies  # a websocket can set none
        first = await ask(browser, OPERATION, id=login)
        assert first.json()["data"]["operation"]["startedBy"]["email"] == person.email
        assert browser.cookies[COOKIE] == started[0].json()["data"]["login"]["sessionToken"]
        assert browser.cookies[LOGIN_COOKIE]  # the other login still waits
        viewer = (await ask(browser, "{ viewer { user { email } } }")).json()["data"]["viewer"]
        assert viewer == {"user": {"email": person.email}}

        kept = browser.cookies[LOGIN_COOKIE]
        await ask(browser, "mutation { logout { ok } }")
        assert not browser.cookies.get(LOGIN_COOKIE)
        forged = {"cookie": f"{LOGIN_COOKIE}={started[0].json()['data']['login']['sessionToken']}.{kept}"}
        async with httpx.AsyncClient(headers=forged, timeout=30) as late:
            check_public(shown((await ask(late, OPERATION, id=login)).json()), person, "COMPLETED")


async def test_a_follower_by_id_alone_sees_no_more_while_the_user_follows(dev_stack: Stack, person: Person) -> None:
    payload = await person.log_in(Client(dev_stack))
    login, token = payload["operation"]["id"], payload["sessionToken"]
    async with (
        graphql_socket(dev_stack.websocket) as stranger,
        graphql_socket(dev_stack.websocket) as second_stranger,
        graphql_socket(dev_stack.websocket, token) as mine,
        graphql_socket(dev_stack.websocket, headers={"cookie": f"{LOGIN_COOKIE}={token}"}) as by_cookie,
    ):
        following = [
            asyncio.create_task(ask_over(each, FOLLOW, id=login))
            for each in (mine, by_cookie, stranger, second_stranger)
        ]
        await asyncio.sleep(1)
        await Client(dev_stack, token).ask(SUBMIT, id=login, code=person.authenticator.now())
        own, cookies, *strangers = [await each for each in following]
    for results in (own, cookies):
        assert shown(results[-1])["startedBy"]["email"] == person.email
        assert shown(results[-1])["tenant"]["slug"] in ("acme", "globex")
    for results in strangers:
        check_public(shown(results[-1]), person, "COMPLETED")
        assert all(shown(each)["startedBy"] is None for each in results)


async def test_a_password_and_an_idempotency_key_do_not_stand_in_for_the_second_factor(
    dev_stack: Stack, person: Person
) -> None:
    key = uuid4().hex
    payload = await person.log_in(Client(dev_stack), key)
    login, token = payload["operation"]["id"], payload["sessionToken"]
    assert (await person.log_in(Client(dev_stack), key))["sessionToken"] == token, "a lost answer is repeated"
    await Client(dev_stack, token).ask(SUBMIT, id=login, code=person.authenticator.now())
    again = await person.log_in(Client(dev_stack), key)
    assert (again["sessionToken"], again["viewer"]) == (None, None)
    check_public(again["operation"], person, "COMPLETED")
    mine = await person.log_in(Client(dev_stack, token), key)
    assert (mine["sessionToken"], mine["viewer"]) == (token, {"user": {"email": person.email}})


async def test_another_user_cannot_retry_a_login(dev_stack: Stack, ada: Client, person: Person) -> None:
    login = (await person.log_in(Client(dev_stack)))["operation"]["id"]
    assert (await ada.refused(RETRY, id=login))["code"] in ("CONFLICT", "NOT_FOUND")


async def test_the_former_session_of_a_switch_sees_its_users_and_tenants(dev_stack: Stack, ada: Client) -> None:
    here = await ada.current_tenant()
    former = Client(dev_stack, ada.token)
    switch, ada.token = await ada.switched(await ada.tenant("Globex" if here == "Acme" else "Acme"))
    query = """
    query ($id: ID!) { operation(id: $id) {
      status startedBy { email } tenant { name }
      ... on TenantSwitch { fromTenant { name } toTenant { name } result { tenant { name } user { email } } }
    } }
    """
    mine = await ada.ask(query, id=switch)
    assert mine["operation"]["startedBy"] == {"email": "ada@example.com"}
    assert await former.ask(query, id=switch) == mine
    async with graphql_socket(dev_stack.websocket, former.token) as opened:
        (followed,) = await ask_over(opened, query.replace("query", "subscription", 1), id=switch)
        assert followed["data"] == mine
    other, _ = await ada.start_switch("ten_" + "f" * 32)
    assert (await former.refused(query, id=other))["code"] == "UNAUTHENTICATED"
    assert (await former.ask("{ viewer { user { email } } }"))["viewer"] is None

"""Everything that has an id, by its id; and what is not there, which looks like what is not shown."""

from __future__ import annotations

from uuid import uuid4

from tests.end_to_end.client import PASSWORD, Client
from tests.end_to_end.files import announce, complete, keep, process
from tests.gateway.fakes import facts
from tests.stack import Stack

NODES = "query ($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }"
ONBOARD = """
mutation ($email: String!) {
  onboardUser(input: {email: $email, name: "Emil", password: "adx-demo-password", waitSeconds: 30}) {
    operation { id result { user { id } workspace { id } } }
  }
}
"""
ME = "{ viewer { user { id } session { id tenant { id } } } }"


async def test_every_kind_of_node_is_found_by_its_id(ada: Client) -> None:
    me = (await ada.ask(ME))["viewer"]
    file = await keep(ada, b"some words\n")
    newcomer = (await ada.ask(ONBOARD, email=f"{uuid4().hex}@example.com"))["onboardUser"]["operation"]
    expected = {
        me["user"]["id"]: "User",
        me["session"]["tenant"]["id"]: "Tenant",
        file["id"]: "File",
        newcomer["result"]["user"]["id"]: "User",
        newcomer["result"]["workspace"]["id"]: "Workspace",
        newcomer["id"]: "UserOnboarding",
        (await complete(ada, (await announce(ada, b"x"))["id"]))["id"]: "FileUpload",
        (await process(ada, file["id"]))["id"]: "FileProcessing",
        (await ada.start_switch("ten_" + "f" * 32))[0]: "TenantSwitch",
    }
    found = (await ada.ask(NODES, ids=list(expected)))["nodes"]
    assert {each["id"]: each["__typename"] for each in found} == expected
    assert [each["id"] for each in found] == list(expected)
    for id, type_ in expected.items():
        one = await ada.ask("query ($id: ID!) { node(id: $id) { __typename id } }", id=id)
        assert one["node"] == {"__typename": type_, "id": id}


async def test_what_is_hidden_looks_like_what_is_not_there(stack: Stack, ada: Client, grace: Client) -> None:
    hidden = [
        (await keep(ada, b"some words\n"))["id"],
        (await complete(ada, (await announce(ada, b"x"))["id"]))["id"],
        (await ada.ask(ONBOARD, email=f"{uuid4().hex}@example.com"))["onboardUser"]["operation"]["result"]["workspace"][
            "id"
        ],
        await ada.tenant("Globex"),
    ]
    absent = [f"{id[:-32]}{'f' * 32}" for id in hidden]
    for id in (*hidden, *absent, "usr_" + "f" * 32, "x"):
        answer = await grace.hear("query ($id: ID!) { node(id: $id) { id } nodes(ids: [$id]) { id } }", id=id)
        assert answer["data"] == {"node": None, "nodes": [None]}
        assert [facts(error) for error in answer["errors"]] == [{"code": "NOT_FOUND"}] * 2
    for one, other in zip(hidden, absent, strict=True):
        answers = [await grace.hear("query ($id: ID!) { node(id: $id) { id } }", id=id) for id in (one, other)]
        assert [(each["data"], each["errors"][0]["message"]) for each in answers[:1]] == [
            (each["data"], each["errors"][0]["message"]) for each in answers[1:]
        ]


async def test_nobody_sees_anything_without_a_session_but_a_login(stack: Stack, ada: Client) -> None:
    login = "mutation ($input: LoginInput!) { login(input: $input) { operation { id } } }"
    grace = {"email": "grace@example.com", "password": PASSWORD}
    id = (await Client(stack).ask(login, input=grace))["login"]["operation"]["id"]
    assert (await Client(stack).ask(NODES, ids=[id]))["nodes"] == [{"__typename": "Login", "id": id}]
    file = (await keep(ada, b"some words\n"))["id"]
    answer = await Client(stack).hear(NODES, ids=[id, file])
    assert answer["data"]["nodes"] == [{"__typename": "Login", "id": id}, None]
    assert [facts(error) for error in answer["errors"]] == [{"code": "UNAUTHENTICATED"}]

"""Objects by their id: every kind is found, and invisible objects look like missing ones."""

from __future__ import annotations

from uuid import uuid4

from tests.end_to_end.client import PASSWORD, Client
from tests.end_to_end.files import complete_upload, create_upload, process_file, upload_file
from tests.gateway.fakes import error_extensions
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


async def test_finds_every_kind_of_node_by_its_id(ada: Client) -> None:
    viewer = (await ada.execute(ME))["viewer"]
    file = await upload_file(ada, b"some words\n")
    onboarding = (await ada.execute(ONBOARD, email=f"{uuid4().hex}@example.com"))["onboardUser"]["operation"]
    expected = {
        viewer["user"]["id"]: "User",
        viewer["session"]["tenant"]["id"]: "Tenant",
        file["id"]: "File",
        onboarding["result"]["user"]["id"]: "User",
        onboarding["result"]["workspace"]["id"]: "Workspace",
        onboarding["id"]: "UserOnboarding",
        (await complete_upload(ada, (await create_upload(ada, b"x"))["id"]))["id"]: "FileUpload",
        (await process_file(ada, file["id"]))["id"]: "FileProcessing",
        (await ada.start_switch("ten_" + "f" * 32))[0]: "TenantSwitch",
    }
    found = (await ada.execute(NODES, ids=list(expected)))["nodes"]
    assert {each["id"]: each["__typename"] for each in found} == expected
    assert [each["id"] for each in found] == list(expected)
    for id, type_ in expected.items():
        one = await ada.execute("query ($id: ID!) { node(id: $id) { __typename id } }", id=id)
        assert one["node"] == {"__typename": type_, "id": id}


async def test_invisible_nodes_look_like_missing_ones(stack: Stack, ada: Client, grace: Client) -> None:
    invisible = [
        (await upload_file(ada, b"some words\n"))["id"],
        (await complete_upload(ada, (await create_upload(ada, b"x"))["id"]))["id"],
        (await ada.execute(ONBOARD, email=f"{uuid4().hex}@example.com"))["onboardUser"]["operation"]["result"][
            "workspace"
        ]["id"],
        await ada.tenant_id("Globex"),
    ]
    missing = [f"{id[:-32]}{'f' * 32}" for id in invisible]
    for id in (*invisible, *missing, "usr_" + "f" * 32, "x"):
        response = await grace.execute_unchecked(
            "query ($id: ID!) { node(id: $id) { id } nodes(ids: [$id]) { id } }", id=id
        )
        assert response["data"] == {"node": None, "nodes": [None]}
        assert [error_extensions(error) for error in response["errors"]] == [{"code": "NOT_FOUND"}] * 2
    for one, other in zip(invisible, missing, strict=True):
        responses = [
            await grace.execute_unchecked("query ($id: ID!) { node(id: $id) { id } }", id=id) for id in (one, other)
        ]
        assert [(each["data"], each["errors"][0]["message"]) for each in responses[:1]] == [
            (each["data"], each["errors"][0]["message"]) for each in responses[1:]
        ]


async def test_without_a_session_only_logins_are_visible(stack: Stack, ada: Client) -> None:
    login = "mutation ($input: LoginInput!) { login(input: $input) { operation { id } } }"
    grace = {"email": "grace@example.com", "password": PASSWORD}
    id = (await Client(stack).execute(login, input=grace))["login"]["operation"]["id"]
    assert (await Client(stack).execute(NODES, ids=[id]))["nodes"] == [{"__typename": "Login", "id": id}]
    file = (await upload_file(ada, b"some words\n"))["id"]
    response = await Client(stack).execute_unchecked(NODES, ids=[id, file])
    assert response["data"]["nodes"] == [{"__typename": "Login", "id": id}, None]
    assert [error_extensions(error) for error in response["errors"]] == [{"code": "UNAUTHENTICATED"}]

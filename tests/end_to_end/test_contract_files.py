"""Files as a client sees them: upload, processing, lists, downloads and visibility to other users."""

from __future__ import annotations

import hashlib
import io
from uuid import uuid4

import httpx
import pytest
from PIL import Image

from tests.end_to_end.client import Client, Json, step_of
from tests.end_to_end.files import CREATE, FILE, complete_upload, create_upload, process_file, send_bytes, upload_file
from tests.stack import Stack

TEXT = b"one two\nthree\n" * 100
PAGE = """
query ($first: Int, $after: String) {
  viewer { files(first: $first, after: $after) {
    edges { cursor node { id } } nodes { id } totalCount
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  } }
}
"""
RETRY = """
mutation ($id: ID!, $key: String) {
  retryOperation(input: {id: $id, idempotencyKey: $key, waitSeconds: 30}) {
    operation { id status error { code step } }
    sessionToken
  }
}
"""
NODE = FILE + "query ($id: ID!) { node(id: $id) { ...Whole } }"


async def test_uploads_processes_and_downloads_a_text(stack: Stack, ada: Client) -> None:
    target = await create_upload(ada, TEXT, name="Straße & Söhne.txt")
    assert (target["method"], target["url"].startswith(f"{stack.url}/uploads/")) == ("PUT", True)
    assert (await send_bytes(target, TEXT)).status_code == 200

    operation = await complete_upload(ada, target["id"])
    file = operation["result"]["file"]
    assert (operation["kind"], operation["status"], operation["error"]) == ("FILE_UPLOAD", "COMPLETED", None)
    assert (operation["startedBy"], operation["tenant"]) == ({"email": "ada@example.com"}, {"slug": "acme"})
    assert operation["progress"] == {"completedSteps": 5, "totalSteps": 5}
    assert file | {"id": "", "uploadedAt": "", "downloadUrl": ""} == {
        "id": "",
        "name": "Straße & Söhne.txt",
        "contentType": "text/plain",
        "size": len(TEXT),
        "checksum": hashlib.sha256(TEXT).hexdigest(),
        "accessLevel": "PRIVATE",
        "owner": {"email": "ada@example.com"},
        "uploadedAt": "",
        "downloadUrl": "",
        "metadata": None,
    }

    read = await process_file(ada, file["id"])
    assert (read["kind"], read["status"]) == ("FILE_PROCESSING", "COMPLETED")
    assert read["result"]["file"]["metadata"] == {"lines": 200, "words": 300, "bytes": len(TEXT)}
    shown = (await ada.execute(NODE, id=file["id"]))["node"]
    assert shown["metadata"] == {"lines": 200, "words": 300, "bytes": len(TEXT)}

    async with httpx.AsyncClient() as http_client:
        fetched = await http_client.get(shown["downloadUrl"])
    assert fetched.content == TEXT
    assert fetched.headers["content-disposition"].startswith("attachment; ")
    assert fetched.headers["content-disposition"].endswith("filename*=UTF-8''Stra%C3%9Fe%20%26%20S%C3%B6hne.txt")
    assert fetched.headers["x-content-type-options"] == "nosniff"


async def test_processing_an_image_finds_its_size(ada: Client) -> None:
    image_bytes = io.BytesIO()
    Image.new("RGB", (37, 21), "teal").save(image_bytes, "PNG")
    file = await upload_file(
        ada, image_bytes.getvalue(), name="teal.png", contentType="image/png", accessLevel="TENANT"
    )
    assert (file["contentType"], file["accessLevel"]) == ("image/png", "TENANT")
    read = await process_file(ada, file["id"])
    assert read["result"]["file"]["metadata"] == {"width": 37, "height": 21, "format": "PNG"}


async def test_processing_other_files_finds_size_and_type(ada: Client) -> None:
    file = await upload_file(ada, b"\x00\x01\x02", name="x.bin", contentType="application/octet-stream")
    read = await process_file(ada, file["id"])
    assert read["result"]["file"]["metadata"] == {"size": 3, "type": "application/octet-stream"}


async def test_subscriber_sees_the_fraction_of_a_step_grow(ada: Client) -> None:
    content = b"a line of some words\n" * 9_000_000
    file = await upload_file(ada, content)
    operation = await process_file(ada, file["id"], waitSeconds=0)
    fractions: list[float] = []
    overall: list[float] = []
    last: Json = {}
    async with ada.follow(operation["id"]) as states:
        async for last in states:
            fractions += [each["fraction"] for each in last["progress"]["steps"] if each["fraction"] is not None]
            overall.append(last["progress"]["fraction"])
    assert last["status"] == "COMPLETED"
    assert any(0 < fraction < 1 for fraction in fractions), fractions
    assert overall == sorted(overall)
    assert overall[-1] == 1


async def test_refuses_bytes_that_were_not_announced(ada: Client) -> None:
    for others, sent, status in (
        ({}, TEXT + b"more", 413),
        ({}, TEXT[:-1], 422),
        ({}, TEXT[:-1] + b"x", 422),
        ({"contentType": "image/png"}, TEXT, 422),
    ):
        target = await create_upload(ada, TEXT, **others)
        assert (await send_bytes(target, sent)).status_code == status
        assert (await complete_upload(ada, target["id"]))["error"]["code"] == "VALIDATION_FAILED"


async def test_upload_completed_too_early_fails_and_succeeds_when_retried(ada: Client) -> None:
    target = await create_upload(ada, TEXT)
    failed = await complete_upload(ada, target["id"])
    assert (failed["status"], failed["result"]) == ("FAILED", None)
    assert failed["error"] == {
        "code": "VALIDATION_FAILED",
        "step": "validate_upload",
        "retryable": False,
        "compensated": True,
        "fields": [{"path": ["input", "uploadId"]}],
    }

    await send_bytes(target, TEXT)
    key = uuid4().hex
    response, retried = [(await ada.execute(RETRY, id=failed["id"], key=key))["retryOperation"] for _ in range(2)]
    assert response == retried
    assert (response["operation"]["status"], response["sessionToken"]) == ("COMPLETED", None)
    assert response["operation"]["id"] != failed["id"]
    assert (await ada.error_of(RETRY, id=response["operation"]["id"]))["code"] == "CONFLICT"
    other = await complete_upload(ada, (await create_upload(ada, TEXT))["id"])
    assert (await ada.error_of(RETRY, id=other["id"], key=key))["code"] == "CONFLICT"


async def test_processing_of_a_damaged_file_fails_and_succeeds_when_retried_after_repair(
    stack: Stack, ada: Client
) -> None:
    content = uuid4().bytes * 1000
    file = await upload_file(ada, content, contentType="application/octet-stream")
    (stored,) = (
        path
        for path in (stack.data_dir / "files").rglob("*")
        if path.is_file() and "staging" not in path.parts and path.read_bytes() == content
    )
    stored.write_bytes(b"x" + content[1:])
    failed = await process_file(ada, file["id"])
    assert (failed["status"], failed["error"]) == ("FAILED", {"code": "DATA_INCONSISTENCY"})
    stored.write_bytes(content)
    response = (await ada.execute(RETRY, id=failed["id"]))["retryOperation"]["operation"]
    assert (response["status"], response["id"] != failed["id"]) == ("COMPLETED", True)


async def test_same_key_returns_the_same_operation_and_conflicts_with_other_input(ada: Client) -> None:
    target, other = await create_upload(ada, TEXT), await create_upload(ada, TEXT)
    await send_bytes(target, TEXT)
    key = uuid4().hex
    first, retried = [await complete_upload(ada, target["id"], idempotencyKey=key) for _ in range(2)]
    assert first["status"] == "COMPLETED"
    assert first == retried
    document = "mutation ($input: CompleteUploadInput!) { completeUpload(input: $input) { operation { id } } }"
    refused = await ada.error_of(document, input={"uploadId": other["id"], "idempotencyKey": key})
    assert refused == {"code": "CONFLICT", "reason": "IDEMPOTENCY_KEY_REUSED"}
    without_key = await complete_upload(ada, target["id"])
    assert (without_key["status"], without_key["error"]["code"]) == ("FAILED", "VALIDATION_FAILED")

    file = first["result"]["file"]["id"]
    first, retried = [await process_file(ada, file, idempotencyKey=key) for _ in range(2)]
    assert (first["status"], first) == ("COMPLETED", retried)


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"name": "../secrets"}, ["input", "name"]),
        ({"name": ""}, ["input", "name"]),
        ({"contentType": "text"}, ["input", "contentType"]),
        ({"checksum": "abc"}, ["input", "checksum"]),
        ({"size": -1}, ["input", "size"]),
        ({"size": 2_000_000_000}, ["input", "size"]),
        ({"size": 3_000_000_000}, ["input", "size"]),
        ({"accessLevel": "WORLD"}, ["input", "accessLevel"]),
    ],
)
async def test_refuses_invalid_uploads_by_their_path(ada: Client, wrong: Json, path: list[str]) -> None:
    new = {"name": "a.txt", "contentType": "text/plain", "size": 1} | wrong
    refused = await ada.error_of(CREATE, input=new)
    assert (refused["code"], [field["path"] for field in refused["fields"]]) == ("BAD_USER_INPUT", [path])


async def test_files_and_uploads_of_other_users_are_not_found(stack: Stack, ada: Client, grace: Client) -> None:
    private_file, shared = await upload_file(ada, TEXT), await upload_file(ada, TEXT, accessLevel="TENANT")
    upload = (await create_upload(ada, TEXT))["id"]
    complete_document = "mutation ($id: ID!) { completeUpload(input: {uploadId: $id}) { operation { id } } }"
    process_document = "mutation ($id: ID!) { processFile(input: {fileId: $id}) { operation { id } } }"
    for invisible_id in (private_file["id"], "fil_" + "f" * 32, "x"):
        assert await grace.error_of(process_document, id=invisible_id) == {"code": "NOT_FOUND"}
    for invisible_id in (upload, "upl_" + "f" * 32, "x"):
        assert await grace.error_of(complete_document, id=invisible_id) == {"code": "NOT_FOUND"}
    for invisible_id in (private_file["id"], "fil_" + "f" * 32):
        assert (await grace.execute_unchecked(NODE, id=invisible_id))["data"] == {"node": None}
    assert (await grace.execute(NODE, id=shared["id"]))["node"]["owner"] == {"email": "ada@example.com"}
    listed = (await grace.execute(PAGE, first=100))["viewer"]["files"]["nodes"]
    assert {"id": shared["id"]} in listed
    assert {"id": private_file["id"]} not in listed

    graces_file = await upload_file(grace, TEXT)
    assert (await ada.execute(NODE, id=graces_file["id"]))["node"]["owner"] == {"email": "grace@example.com"}

    in_globex = Client(stack, ada.token)
    _, in_globex.token = await ada.switch_tenant(await ada.tenant_id("Globex"))
    for file in (private_file, shared, graces_file):
        assert (await in_globex.execute_unchecked(NODE, id=file["id"]))["data"] == {"node": None}
        assert await in_globex.error_of(process_document, id=file["id"]) == {"code": "NOT_FOUND"}
    assert await in_globex.error_of(complete_document, id=upload) == {"code": "NOT_FOUND"}
    await in_globex.switch_tenant(await in_globex.tenant_id("Acme"))


async def test_pages_are_newest_first_and_stable_while_files_are_added(stack: Stack, ada: Client) -> None:
    uploaded = [(await upload_file(ada, TEXT))["id"] for _ in range(3)]
    first = (await ada.execute(PAGE, first=2))["viewer"]["files"]
    assert [node["id"] for node in first["nodes"]] == uploaded[:0:-1]
    assert [edge["node"] for edge in first["edges"]] == first["nodes"]
    assert first["pageInfo"] == {
        "hasNextPage": True,
        "hasPreviousPage": False,
        "startCursor": first["edges"][0]["cursor"],
        "endCursor": first["edges"][1]["cursor"],
    }
    await upload_file(ada, TEXT)
    second = (await ada.execute(PAGE, first=1, after=first["pageInfo"]["endCursor"]))["viewer"]["files"]
    assert [node["id"] for node in second["nodes"]] == uploaded[:1]
    assert second["pageInfo"]["hasPreviousPage"] is True
    assert second["totalCount"] == first["totalCount"] + 1

    grace = Client(stack)
    await grace.log_in("grace@example.com")
    for after in ("x", first["pageInfo"]["endCursor"]):
        refused = await grace.error_of(PAGE, after=after)
        assert (refused["code"], [field["path"] for field in refused["fields"]]) == ("BAD_USER_INPUT", [["after"]])
    refused = await ada.error_of(PAGE, first=101)
    assert [field["path"] for field in refused["fields"]] == [["first"]]


async def test_cancelled_processing_stops_and_can_be_retried(ada: Client) -> None:
    file = await upload_file(ada, b"a line of some words\n" * 6_000_000)
    cancel = "mutation ($id: ID!) { cancelOperation(input: {id: $id}) { operation { id } } }"
    for _ in range(5):  # on a busy machine the operation may complete before it is cancelled
        operation = await process_file(ada, file["id"], waitSeconds=0)
        async with ada.follow(operation["id"]) as states:
            async for state in states:
                if step_of(state, "verify_checksum")["status"] == "RUNNING":
                    break
        await ada.execute(cancel, id=operation["id"])
        last = await ada.wait_for_final_state(operation["id"])
        if last["status"] != "COMPLETED":
            break
    assert last["status"] == "CANCELLED"
    assert last["error"] | {"message": ""} == {"code": "CANCELLED", "message": "", "compensated": True}
    retried = (await ada.execute(RETRY, id=operation["id"]))["retryOperation"]["operation"]
    assert retried["status"] == "COMPLETED"
    assert (await ada.execute(cancel, id=retried["id"]))["cancelOperation"]["operation"] == {"id": retried["id"]}

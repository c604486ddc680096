"""Files from the client's side: sent, made, read, listed, fetched, and hidden from those whom they do not concern."""

from __future__ import annotations

import hashlib
import io
from uuid import uuid4

import httpx
import pytest
from PIL import Image

from tests.end_to_end.client import Client, Json, step
from tests.end_to_end.files import CREATE, FILE, announce, complete, keep, process, send
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


async def test_a_text_is_sent_made_read_and_fetched(stack: Stack, ada: Client) -> None:
    target = await announce(ada, TEXT, name="Straße & Söhne.txt")
    assert (target["method"], target["url"].startswith(f"{stack.url}/uploads/")) == ("PUT", True)
    assert (await send(target, TEXT)).status_code == 200

    operation = await complete(ada, target["id"])
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

    read = await process(ada, file["id"])
    assert (read["kind"], read["status"]) == ("FILE_PROCESSING", "COMPLETED")
    assert read["result"]["file"]["metadata"] == {"lines": 200, "words": 300, "bytes": len(TEXT)}
    shown = (await ada.ask(NODE, id=file["id"]))["node"]
    assert shown["metadata"] == {"lines": 200, "words": 300, "bytes": len(TEXT)}

    async with httpx.AsyncClient() as anybody:
        fetched = await anybody.get(shown["downloadUrl"])
    assert fetched.content == TEXT
    assert fetched.headers["content-disposition"].startswith("attachment; ")
    assert fetched.headers["content-disposition"].endswith("filename*=UTF-8''Stra%C3%9Fe%20%26%20S%C3%B6hne.txt")
    assert fetched.headers["x-content-type-options"] == "nosniff"


async def test_an_image_is_measured(ada: Client) -> None:
    drawn = io.BytesIO()
    Image.new("RGB", (37, 21), "teal").save(drawn, "PNG")
    file = await keep(ada, drawn.getvalue(), name="teal.png", contentType="image/png", accessLevel="TENANT")
    assert (file["contentType"], file["accessLevel"]) == ("image/png", "TENANT")
    read = await process(ada, file["id"])
    assert read["result"]["file"]["metadata"] == {"width": 37, "height": 21, "format": "PNG"}


async def test_anything_else_is_told_by_size_and_type(ada: Client) -> None:
    file = await keep(ada, b"\x00\x01\x02", name="x.bin", contentType="application/octet-stream")
    read = await process(ada, file["id"])
    assert read["result"]["file"]["metadata"] == {"size": 3, "type": "application/octet-stream"}


async def test_who_follows_it_sees_the_part_done_move(ada: Client) -> None:
    content = b"a line of some words\n" * 9_000_000
    file = await keep(ada, content)
    operation = await process(ada, file["id"], waitSeconds=0)
    parts: list[float] = []
    overall: list[float] = []
    last: Json = {}
    async with ada.follow(operation["id"]) as states:
        async for last in states:
            parts += [each["fraction"] for each in last["progress"]["steps"] if each["fraction"] is not None]
            overall.append(last["progress"]["fraction"])
    assert last["status"] == "COMPLETED"
    assert any(0 < part < 1 for part in parts), parts
    assert overall == sorted(overall)
    assert overall[-1] == 1


async def test_bytes_that_are_not_what_was_announced_are_refused_as_they_arrive(ada: Client) -> None:
    for others, sent, status in (
        ({}, TEXT + b"more", 413),
        ({}, TEXT[:-1], 422),
        ({}, TEXT[:-1] + b"x", 422),
        ({"contentType": "image/png"}, TEXT, 422),
    ):
        target = await announce(ada, TEXT, **others)
        assert (await send(target, sent)).status_code == status
        assert (await complete(ada, target["id"]))["error"]["code"] == "VALIDATION_FAILED"


async def test_an_upload_completed_too_early_fails_and_succeeds_when_it_is_started_again(ada: Client) -> None:
    target = await announce(ada, TEXT)
    failed = await complete(ada, target["id"])
    assert (failed["status"], failed["result"]) == ("FAILED", None)
    assert failed["error"] == {
        "code": "VALIDATION_FAILED",
        "step": "validate_upload",
        "retryable": False,
        "compensated": True,
        "fields": [{"path": ["input", "uploadId"]}],
    }

    await send(target, TEXT)
    key = uuid4().hex
    answer, again = [(await ada.ask(RETRY, id=failed["id"], key=key))["retryOperation"] for _ in range(2)]
    assert answer == again
    assert (answer["operation"]["status"], answer["sessionToken"]) == ("COMPLETED", None)
    assert answer["operation"]["id"] != failed["id"]
    assert (await ada.refused(RETRY, id=answer["operation"]["id"]))["code"] == "CONFLICT"
    other = await complete(ada, (await announce(ada, TEXT))["id"])
    assert (await ada.refused(RETRY, id=other["id"], key=key))["code"] == "CONFLICT"


async def test_a_file_that_was_damaged_is_read_again_once_it_is_mended(stack: Stack, ada: Client) -> None:
    content = uuid4().bytes * 1000
    file = await keep(ada, content, contentType="application/octet-stream")
    (stored,) = (
        path
        for path in (stack.data_dir / "files").rglob("*")
        if path.is_file() and "staging" not in path.parts and path.read_bytes() == content
    )
    stored.write_bytes(b"x" + content[1:])
    failed = await process(ada, file["id"])
    assert (failed["status"], failed["error"]) == ("FAILED", {"code": "DATA_INCONSISTENCY"})
    stored.write_bytes(content)
    answer = (await ada.ask(RETRY, id=failed["id"]))["retryOperation"]["operation"]
    assert (answer["status"], answer["id"] != failed["id"]) == ("COMPLETED", True)


async def test_the_same_key_is_the_same_operation_and_with_other_input_a_conflict(ada: Client) -> None:
    target, other = await announce(ada, TEXT), await announce(ada, TEXT)
    await send(target, TEXT)
    key = uuid4().hex
    first, again = [await complete(ada, target["id"], idempotencyKey=key) for _ in range(2)]
    assert first["status"] == "COMPLETED"
    assert first == again
    document = "mutation ($input: CompleteUploadInput!) { completeUpload(input: $input) { operation { id } } }"
    refused = await ada.refused(document, input={"uploadId": other["id"], "idempotencyKey": key})
    assert refused == {"code": "CONFLICT", "reason": "IDEMPOTENCY_KEY_REUSED"}
    without = await complete(ada, target["id"])
    assert (without["status"], without["error"]["code"]) == ("FAILED", "VALIDATION_FAILED")

    file = first["result"]["file"]["id"]
    first, again = [await process(ada, file, idempotencyKey=key) for _ in range(2)]
    assert (first["status"], first) == ("COMPLETED", again)


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
async def test_what_cannot_be_sent_is_refused_by_its_path(ada: Client, wrong: Json, path: list[str]) -> None:
    new = {"name": "a.txt", "contentType": "text/plain", "size": 1} | wrong
    refused = await ada.refused(CREATE, input=new)
    assert (refused["code"], [field["path"] for field in refused["fields"]]) == ("BAD_USER_INPUT", [path])


async def test_files_and_uploads_of_others_are_not_found(stack: Stack, ada: Client, grace: Client) -> None:
    hers, shared = await keep(ada, TEXT), await keep(ada, TEXT, accessLevel="TENANT")
    upload = (await announce(ada, TEXT))["id"]
    complete_it = "mutation ($id: ID!) { completeUpload(input: {uploadId: $id}) { operation { id } } }"
    process_it = "mutation ($id: ID!) { processFile(input: {fileId: $id}) { operation { id } } }"
    for unseen in (hers["id"], "fil_" + "f" * 32, "x"):
        assert await grace.refused(process_it, id=unseen) == {"code": "NOT_FOUND"}
    for unseen in (upload, "upl_" + "f" * 32, "x"):
        assert await grace.refused(complete_it, id=unseen) == {"code": "NOT_FOUND"}
    for unseen in (hers["id"], "fil_" + "f" * 32):
        assert (await grace.hear(NODE, id=unseen))["data"] == {"node": None}
    assert (await grace.ask(NODE, id=shared["id"]))["node"]["owner"] == {"email": "ada@example.com"}
    listed = (await grace.ask(PAGE, first=100))["viewer"]["files"]["nodes"]
    assert {"id": shared["id"]} in listed
    assert {"id": hers["id"]} not in listed

    graces = await keep(grace, TEXT)
    assert (await ada.ask(NODE, id=graces["id"]))["node"]["owner"] == {"email": "grace@example.com"}

    elsewhere = Client(stack, ada.token)
    _, elsewhere.token = await ada.switched(await ada.tenant("Globex"))
    for file in (hers, shared, graces):
        assert (await elsewhere.hear(NODE, id=file["id"]))["data"] == {"node": None}
        assert await elsewhere.refused(process_it, id=file["id"]) == {"code": "NOT_FOUND"}
    assert await elsewhere.refused(complete_it, id=upload) == {"code": "NOT_FOUND"}
    await elsewhere.switched(await elsewhere.tenant("Acme"))


async def test_pages_are_newest_first_and_stay_in_place_while_files_are_added(stack: Stack, ada: Client) -> None:
    made = [(await keep(ada, TEXT))["id"] for _ in range(3)]
    first = (await ada.ask(PAGE, first=2))["viewer"]["files"]
    assert [node["id"] for node in first["nodes"]] == made[:0:-1]
    assert [edge["node"] for edge in first["edges"]] == first["nodes"]
    assert first["pageInfo"] == {
        "hasNextPage": True,
        "hasPreviousPage": False,
        "startCursor": first["edges"][0]["cursor"],
        "endCursor": first["edges"][1]["cursor"],
    }
    await keep(ada, TEXT)
    second = (await ada.ask(PAGE, first=1, after=first["pageInfo"]["endCursor"]))["viewer"]["files"]
    assert [node["id"] for node in second["nodes"]] == made[:1]
    assert second["pageInfo"]["hasPreviousPage"] is True
    assert second["totalCount"] == first["totalCount"] + 1

    grace = Client(stack)
    await grace.log_in("grace@example.com")
    for after in ("x", first["pageInfo"]["endCursor"]):
        refused = await grace.refused(PAGE, after=after)
        assert (refused["code"], [field["path"] for field in refused["fields"]]) == ("BAD_USER_INPUT", [["after"]])
    refused = await ada.refused(PAGE, first=101)
    assert [field["path"] for field in refused["fields"]] == [["first"]]


async def test_a_processing_that_is_cancelled_stops_and_says_so(ada: Client) -> None:
    file = await keep(ada, b"a line of some words\n" * 6_000_000)
    cancel = "mutation ($id: ID!) { cancelOperation(input: {id: $id}) { operation { id } } }"
    for _ in range(5):  # where this process gets no processor, one is done before it is cancelled
        operation = await process(ada, file["id"], waitSeconds=0)
        async with ada.follow(operation["id"]) as states:
            async for state in states:
                if step(state, "verify_checksum")["status"] == "RUNNING":
                    break
        await ada.ask(cancel, id=operation["id"])
        last = await ada.to_its_end(operation["id"])
        if last["status"] != "COMPLETED":
            break
    assert last["status"] == "CANCELLED"
    assert last["error"] | {"message": ""} == {"code": "CANCELLED", "message": "", "compensated": True}
    again = (await ada.ask(RETRY, id=operation["id"]))["retryOperation"]["operation"]
    assert again["status"] == "COMPLETED"
    assert (await ada.ask(cancel, id=again["id"]))["cancelOperation"]["operation"] == {"id": again["id"]}

"""What a client does with files: announces one, sends its bytes, has it made and read."""

from __future__ import annotations

import hashlib

import httpx

from tests.end_to_end.client import Client, Json

FILE = """
fragment Whole on File {
  id name contentType size checksum accessLevel owner { email } uploadedAt downloadUrl metadata
}
"""
CREATE = """
mutation ($input: CreateUploadInput!) {
  createUpload(input: $input) { upload { id url method headers { name value } expiresAt } }
}
"""
COMPLETE = (
    FILE
    + """
mutation ($input: CompleteUploadInput!) {
  completeUpload(input: $input) {
    operation {
      id kind status startedBy { email } tenant { slug } error { code step retryable compensated fields { path } }
      progress { completedSteps totalSteps }
      result { file { ...Whole } }
    }
  }
}
"""
)
PROCESS = (
    FILE
    + """
mutation ($input: ProcessFileInput!) {
  processFile(input: $input) {
    operation { id kind status startedBy { email } error { code } result { file { ...Whole } } }
  }
}
"""
)


async def announce(client: Client, content: bytes, **others: object) -> Json:
    """Where to send the bytes."""
    new: dict[str, object] = {
        "name": "notes.txt",
        "contentType": "text/plain",
        "size": len(content),
        "checksum": hashlib.sha256(content).hexdigest(),
    }
    target: Json = (await client.ask(CREATE, input=new | others))["createUpload"]["upload"]
    return target


async def send(target: Json, content: bytes) -> httpx.Response:
    """As the target says, without any other authentication."""
    headers = {header["name"]: header["value"] for header in target["headers"]}
    async with httpx.AsyncClient(timeout=60, trust_env=False, verify=False) as http:  # as in Client
        return await http.request(target["method"], target["url"], headers=headers, content=content)


async def complete(client: Client, upload_id: str, **others: object) -> Json:
    """The operation."""
    answer = await client.ask(COMPLETE, input={"uploadId": upload_id, "waitSeconds": 30} | others)
    operation: Json = answer["completeUpload"]["operation"]
    return operation


async def process(client: Client, file_id: str, **others: object) -> Json:
    """The operation."""
    answer = await client.ask(PROCESS, input={"fileId": file_id, "waitSeconds": 30} | others)
    operation: Json = answer["processFile"]["operation"]
    return operation


async def keep(client: Client, content: bytes, **others: object) -> Json:
    """All of an upload; the file."""
    target = await announce(client, content, **others)
    sent = await send(target, content)
    assert sent.status_code == 200, sent.text
    operation = await complete(client, target["id"])
    assert operation["status"] == "COMPLETED", operation
    file: Json = operation["result"]["file"]
    return file

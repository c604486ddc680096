"""Steps of a client that uploads and processes files."""

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


async def create_upload(client: Client, content: bytes, **others: object) -> Json:
    """Announce an upload of the content; return where to send the bytes."""
    new: dict[str, object] = {
        "name": "notes.txt",
        "contentType": "text/plain",
        "size": len(content),
        "checksum": hashlib.sha256(content).hexdigest(),
    }
    target: Json = (await client.execute(CREATE, input=new | others))["createUpload"]["upload"]
    return target


async def send_bytes(target: Json, content: bytes) -> httpx.Response:
    """Send the content as the upload requires, without other authentication."""
    headers = {header["name"]: header["value"] for header in target["headers"]}
    async with httpx.AsyncClient(timeout=60, trust_env=False, verify=False) as http:  # for the reason stated in Client
        return await http.request(target["method"], target["url"], headers=headers, content=content)


async def complete_upload(client: Client, upload_id: str, **others: object) -> Json:
    """Complete the upload and return the operation."""
    response = await client.execute(COMPLETE, input={"uploadId": upload_id, "waitSeconds": 30} | others)
    operation: Json = response["completeUpload"]["operation"]
    return operation


async def process_file(client: Client, file_id: str, **others: object) -> Json:
    """Process the file and return the operation."""
    response = await client.execute(PROCESS, input={"fileId": file_id, "waitSeconds": 30} | others)
    operation: Json = response["processFile"]["operation"]
    return operation


async def upload_file(client: Client, content: bytes, **others: object) -> Json:
    """Upload the content completely and return the file."""
    target = await create_upload(client, content, **others)
    sent = await send_bytes(target, content)
    assert sent.status_code == 200, sent.text
    operation = await complete_upload(client, target["id"])
    assert operation["status"] == "COMPLETED", operation
    file: Json = operation["result"]["file"]
    return file

"""Rotation of CODEC_KEYS: payloads stay readable while their key is listed, and an error names a missing key."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
from temporalio.client import WorkflowHandle

from contracts.operations import MEMO_STATE
from infrastructure.temporal.codec import KeyRing, PayloadDecryptionFailed
from infrastructure.temporal.connection import connect
from tests.gateway.fakes import GLOBEX, TOKEN
from tests.security.test_codec import NEW, OLD, gateway, settings

SWITCH = "mutation ($id: ID!) { switchTenant(input: {tenantId: $id, waitSeconds: 0}) { operation { id } } }"
READ = "query ($id: ID!) { operation(id: $id) { id status } }"
BEARER = {"authorization": f"Bearer {TOKEN}"}


async def test_reads_old_operations_while_their_key_is_listed(temporal_address: str, tmp_path: Path) -> None:
    async def start_switch(keys: str) -> str:
        async with gateway(settings(temporal_address, tmp_path, codec_keys=keys)) as client:
            body = {"query": SWITCH, "variables": {"id": GLOBEX}}
            response = (await client.post("/graphql", json=body, headers=BEARER)).json()
        id: str = response["data"]["switchTenant"]["operation"]["id"]
        return id

    async def read_operation(id: str, keys: str) -> dict[str, object]:
        async with gateway(settings(temporal_address, tmp_path, codec_keys=keys)) as client:
            body = {"query": READ, "variables": {"id": id}}
            response: dict[str, object] = (await client.post("/graphql", json=body, headers=BEARER)).json()
        return response

    before = await start_switch(OLD)
    after = await start_switch(f"{NEW},{OLD}")
    assert (await keys_used(temporal_address, before), await keys_used(temporal_address, after)) == ({"old"}, {"new"})

    for id in (before, after):
        response = await read_operation(id, f"{NEW},{OLD}")
        assert response["data"] == {"operation": {"id": id, "status": "RUNNING"}}
    assert "errors" not in await read_operation(after, NEW)

    with structlog.testing.capture_logs() as logs:
        response = await read_operation(before, NEW)
    assert [error["extensions"]["code"] for error in response["errors"]] == ["INTERNAL"]  # type: ignore[attr-defined]
    logged_errors = [str(line["exc_info"]) for line in logs if line["event"] == "execution_failed"]
    assert logged_errors == ["This was encrypted under the key 'old', which CODEC_KEYS does not hold."]


async def keys_used(temporal_address: str, operation_id: str) -> set[str]:
    """Return the ids of the keys that encrypt the memo and the input of the workflow."""
    plain = await connect(address=temporal_address, namespace=None, keys=None)
    handle: WorkflowHandle[object, object] = plain.get_workflow_handle(operation_id)
    (started,) = [event async for event in handle.fetch_history_events(page_size=1)][:1]
    attributes = started.workflow_execution_started_event_attributes
    payloads = [*attributes.input.payloads, *attributes.memo.fields.values()]
    assert all(payload.metadata["encoding"] == b"binary/encrypted" for payload in payloads)
    return {payload.metadata["key-id"].decode() for payload in payloads}


async def test_error_names_the_missing_key(temporal_address: str, tmp_path: Path) -> None:
    async with gateway(settings(temporal_address, tmp_path)) as client:
        body = {"query": SWITCH, "variables": {"id": GLOBEX}}
        response = (await client.post("/graphql", json=body, headers=BEARER)).json()
    other = await connect(address=temporal_address, namespace=None, keys=KeyRing.parse(NEW))
    handle: WorkflowHandle[object, object] = other.get_workflow_handle(
        response["data"]["switchTenant"]["operation"]["id"]
    )
    described = await handle.describe()
    with pytest.raises(PayloadDecryptionFailed, match="under the key 'old', which CODEC_KEYS does not hold"):
        await described.memo_value(MEMO_STATE)

"""Keys rotate: what was encrypted under an old one stays readable while it is kept, and says so once it is gone."""

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


async def test_old_operations_are_read_while_their_key_is_kept(temporal_address: str, tmp_path: Path) -> None:
    async def start(keys: str) -> str:
        async with gateway(settings(temporal_address, tmp_path, codec_keys=keys)) as client:
            body = {"query": SWITCH, "variables": {"id": GLOBEX}}
            answer = (await client.post("/graphql", json=body, headers=BEARER)).json()
        id: str = answer["data"]["switchTenant"]["operation"]["id"]
        return id

    async def read(id: str, keys: str) -> dict[str, object]:
        async with gateway(settings(temporal_address, tmp_path, codec_keys=keys)) as client:
            body = {"query": READ, "variables": {"id": id}}
            answer: dict[str, object] = (await client.post("/graphql", json=body, headers=BEARER)).json()
        return answer

    before = await start(OLD)
    after = await start(f"{NEW},{OLD}")
    assert (await keys_used(temporal_address, before), await keys_used(temporal_address, after)) == ({"old"}, {"new"})

    for id in (before, after):
        answer = await read(id, f"{NEW},{OLD}")
        assert answer["data"] == {"operation": {"id": id, "status": "RUNNING"}}
    assert "errors" not in await read(after, NEW)

    with structlog.testing.capture_logs() as logs:
        answer = await read(before, NEW)
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["INTERNAL"]  # type: ignore[attr-defined]
    told = [str(line["exc_info"]) for line in logs if line["event"] == "execution_failed"]
    assert told == ["This was encrypted under the key 'old', which CODEC_KEYS does not hold."]


async def keys_used(temporal_address: str, operation_id: str) -> set[str]:
    """The ids of the keys under which its memo and its input lie in Temporal."""
    plain = await connect(address=temporal_address, namespace=None, keys=None)
    handle: WorkflowHandle[object, object] = plain.get_workflow_handle(operation_id)
    (started,) = [event async for event in handle.fetch_history_events(page_size=1)][:1]
    facts = started.workflow_execution_started_event_attributes
    payloads = [*facts.input.payloads, *facts.memo.fields.values()]
    assert all(payload.metadata["encoding"] == b"binary/encrypted" for payload in payloads)
    return {payload.metadata["key-id"].decode() for payload in payloads}


async def test_a_client_without_the_key_says_which_it_lacks(temporal_address: str, tmp_path: Path) -> None:
    async with gateway(settings(temporal_address, tmp_path)) as client:
        body = {"query": SWITCH, "variables": {"id": GLOBEX}}
        answer = (await client.post("/graphql", json=body, headers=BEARER)).json()
    other = await connect(address=temporal_address, namespace=None, keys=KeyRing.parse(NEW))
    handle: WorkflowHandle[object, object] = other.get_workflow_handle(
        answer["data"]["switchTenant"]["operation"]["id"]
    )
    described = await handle.describe()
    with pytest.raises(PayloadDecryptionFailed, match="under the key 'old', which CODEC_KEYS does not hold"):
        await described.memo_value(MEMO_STATE)

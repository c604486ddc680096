"""The normalized cache of Apollo Client: fragments on the interface Operation match; each viewer has its own entry."""

from __future__ import annotations

import json
from pathlib import Path

import httpx

from schema.__main__ import POSSIBLE_TYPES
from tests.clients.npm import node_output
from tests.end_to_end.client import Client
from tests.stack import Stack

IDS = "{ viewer { id user { id } preferences { id } } }"
UPDATE = "mutation { updatePreferences(input: {theme: DARK}) { preferences { id } } }"


async def test_cache_contains_fields_of_a_fragment_on_an_interface(
    dev_stack: Stack, node_clients: Path, tmp_path: Path
) -> None:
    ada = Client(dev_stack)
    await ada.log_in("ada@example.com")
    operation, _ = await ada.start_switch("ten_" + "f" * 32)
    assert (await ada.wait_for_final_state(operation))["status"] == "FAILED"
    config = json.dumps({"graphql": dev_stack.graphql, "token": ada.token})
    async with node_output(node_clients / "cache.mjs", config, log=tmp_path / "node.log") as lines:
        output = await anext(lines)
    cached = output["with"]["operation"]
    assert (cached["id"], cached["status"], cached["__typename"]) == (operation, "FAILED", "TenantSwitch")
    assert 0 <= cached["progress"]["fraction"] <= 1
    assert "status" not in (output["without"]["operation"] or {}), "Apollo Client no longer needs possibleTypes"
    assert len(output["with"]["viewers"]) == 1


async def test_serves_the_committed_possible_types(dev_stack: Stack) -> None:
    async with httpx.AsyncClient() as http:
        response = await http.get(f"{dev_stack.graphql}/possible-types")
    assert response.json() == json.loads(POSSIBLE_TYPES.read_text())
    assert "TenantSwitch" in response.json()["Operation"]
    assert set(response.json()["Node"]) > set(response.json()["Operation"])


async def test_ids_of_viewer_and_preferences_are_unique_per_user_and_tenant(dev_stack: Stack) -> None:
    ada, grace = Client(dev_stack), Client(dev_stack)
    await ada.log_in("ada@example.com")
    await grace.log_in("grace@example.com")
    await ada.ensure_tenant("Acme")
    first, graces = (await ada.execute(IDS))["viewer"], (await grace.execute(IDS))["viewer"]
    second_session = Client(dev_stack)
    await second_session.log_in("ada@example.com")
    assert (await second_session.execute(IDS))["viewer"] == first
    assert (await ada.execute(UPDATE))["updatePreferences"]["preferences"]["id"] == first["preferences"]["id"]
    await ada.ensure_tenant("Globex")
    in_globex = (await ada.execute(IDS))["viewer"]
    assert len({first["id"], graces["id"], in_globex["id"], first["user"]["id"], graces["user"]["id"]}) == 5
    assert in_globex["preferences"] == first["preferences"] != graces["preferences"]

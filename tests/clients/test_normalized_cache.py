"""Apollo Client's normalized cache: fragments on the interface Operation match, and each viewer has an entry."""

from __future__ import annotations

import json
from pathlib import Path

import httpx

from schema.__main__ import POSSIBLE_TYPES
from tests.clients.npm import said_by
from tests.end_to_end.client import Client
from tests.stack import Stack

IDS = "{ viewer { id user { id } preferences { id } } }"
UPDATE = "mutation { updatePreferences(input: {theme: DARK}) { preferences { id } } }"


async def test_a_fragment_on_an_interface_keeps_its_fields(
    dev_stack: Stack, node_clients: Path, tmp_path: Path
) -> None:
    ada = Client(dev_stack)
    await ada.log_in("ada@example.com")
    operation, _ = await ada.start_switch("ten_" + "f" * 32)
    assert (await ada.to_its_end(operation))["status"] == "FAILED"
    config = json.dumps({"graphql": dev_stack.graphql, "token": ada.token})
    async with said_by(node_clients / "cache.mjs", config, log=tmp_path / "node.log") as lines:
        said = await anext(lines)
    shown = said["with"]["operation"]
    assert (shown["id"], shown["status"], shown["__typename"]) == (operation, "FAILED", "TenantSwitch")
    assert 0 <= shown["progress"]["fraction"] <= 1
    assert "status" not in (said["without"]["operation"] or {}), "Apollo Client no longer needs possibleTypes"
    assert len(said["with"]["viewers"]) == 1


async def test_possible_types_are_served_as_they_are_committed(dev_stack: Stack) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{dev_stack.graphql}/possible-types")
    assert answer.json() == json.loads(POSSIBLE_TYPES.read_text())
    assert "TenantSwitch" in answer.json()["Operation"]
    assert set(answer.json()["Node"]) > set(answer.json()["Operation"])


async def test_ids_of_viewer_and_preferences_distinguish_users_and_tenants(dev_stack: Stack) -> None:
    ada, grace = Client(dev_stack), Client(dev_stack)
    await ada.log_in("ada@example.com")
    await grace.log_in("grace@example.com")
    await ada.work_in("Acme")
    first, hers = (await ada.ask(IDS))["viewer"], (await grace.ask(IDS))["viewer"]
    again = Client(dev_stack)
    await again.log_in("ada@example.com")
    assert (await again.ask(IDS))["viewer"] == first
    assert (await ada.ask(UPDATE))["updatePreferences"]["preferences"]["id"] == first["preferences"]["id"]
    await ada.work_in("Globex")
    elsewhere = (await ada.ask(IDS))["viewer"]
    assert len({first["id"], hers["id"], elsewhere["id"], first["user"]["id"], hers["user"]["id"]}) == 5
    assert elsewhere["preferences"] == first["preferences"] != hers["preferences"]

"""The gateway speaks GraphQL over HTTP as its specification has it, by the audits of npm's graphql-http."""

from __future__ import annotations

from pathlib import Path

from tests.clients.npm import said_by
from tests.gateway.fakes import Services, settings
from tests.gateway.live_gateway import running_gateway


async def test_every_audit_is_passed(node_clients: Path, temporal_address: str, tmp_path: Path) -> None:
    async with running_gateway(settings(temporal_address, data_dir=tmp_path), Services()) as gateway:
        script, url = node_clients / "audit.mjs", f"{gateway.http}/graphql"
        async with said_by(script, url, log=tmp_path / "audit.log") as said:
            found = [each async for each in said]
    assert {each["name"]: each["reason"] for each in found if each["status"] != "ok"} == {}
    assert len(found) == 61

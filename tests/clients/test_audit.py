"""The gateway passes the GraphQL-over-HTTP audits of the npm package graphql-http."""

from __future__ import annotations

from pathlib import Path

from tests.clients.npm import node_output
from tests.gateway.fakes import FakeServices, settings
from tests.gateway.live_gateway import running_gateway


async def test_passes_every_graphql_over_http_audit(node_clients: Path, temporal_address: str, tmp_path: Path) -> None:
    async with running_gateway(settings(temporal_address, data_dir=tmp_path), FakeServices()) as gateway:
        script, url = node_clients / "audit.mjs", f"{gateway.http}/graphql"
        async with node_output(script, url, log=tmp_path / "audit.log") as output:
            audits = [each async for each in output]
    assert {each["name"]: each["reason"] for each in audits if each["status"] != "ok"} == {}
    assert len(audits) == 61

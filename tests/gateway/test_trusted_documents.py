"""Manifests that clients' tools write, and the clients on a gateway that executes only trusted documents."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from gateway.http.document_manifest import main
from tests.clients.npm import installed, said_by
from tests.gateway.fakes import ACME, ADA, TOKEN, Services, settings
from tests.gateway.live_gateway import introduction, running_gateway
from tests.stack import ROOT

TOOLS = Path(__file__).parent / "trusted_documents"


@pytest.fixture(scope="session")
def tools() -> Path:
    """The npm project of the tools, with its packages."""
    return installed(TOOLS)


def copied(tools: Path, name: str, folder: Path) -> Path:
    """A project of its own for the tool, with the packages of all."""
    project = folder / name
    shutil.copytree(tools / name, project)
    shutil.copy(ROOT / "schema.graphql", project)
    shutil.copy(tools / "client.mjs", project)
    (project / "package.json").write_text('{"type": "module"}')
    (project / "node_modules").symlink_to(tools / "node_modules")
    return project


def run(project: Path, *command: str, **environment: str) -> None:
    tool = project / "node_modules" / ".bin" / command[0]
    variables = dict(os.environ) | environment
    done = subprocess.run([tool, *command[1:]], cwd=project, env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def by_codegen(tools: Path, folder: Path, algorithm: str = "sha256") -> Path:
    project = copied(tools, "codegen", folder)
    run(project, "graphql-codegen", "--config", "codegen.mjs", "--silent", ALGORITHM=algorithm)
    return project / "generated" / "persisted-documents.json"


def by_codegen_with_sha1(tools: Path, folder: Path) -> Path:
    return by_codegen(tools, folder, "sha1")


def by_apollo(tools: Path, folder: Path) -> Path:
    project = copied(tools, "apollo", folder)
    run(project, "generate-persisted-query-manifest", "--config", "persisted-query-manifest.config.mjs")
    return project / "persisted-query-manifest.json"


def by_relay(tools: Path, folder: Path, algorithm: str | None = None) -> Path:
    project = copied(tools, "relay", folder)
    config = project / "relay.config.json"
    settings_of_relay = json.loads(config.read_text())
    if algorithm:
        settings_of_relay["persistConfig"]["algorithm"] = algorithm
    config.write_text(json.dumps(settings_of_relay))
    (project / "persisted.json").write_text("{}")
    run(project, "relay-compiler")
    return project / "persisted.json"


def by_relay_with_sha256(tools: Path, folder: Path) -> Path:
    return by_relay(tools, folder, "SHA256")


def by_make_documents(tools: Path, folder: Path) -> Path:
    project = copied(tools, "codegen", folder)
    (project / "schema.graphql").unlink()
    manifest = folder / "documents.json"
    assert main([str(project), str(manifest)]) == 0
    return manifest


@pytest.mark.parametrize(
    ("write", "client", "project"),
    [
        (by_codegen, "codegen", "codegen"),
        (by_codegen_with_sha1, "codegen", "codegen"),
        (by_codegen, "documentId", "codegen"),
        (by_codegen, "urql", "codegen"),
        (by_apollo, "apollo", "apollo"),
        (by_relay, "relay", "relay"),
        (by_relay_with_sha256, "relay", "relay"),
        (by_make_documents, "printed", "codegen"),
    ],
    ids=lambda each: getattr(each, "__name__", None) or each,
)
async def test_a_client_asks_by_the_manifest_that_its_tool_wrote(
    write: Callable[[Path, Path], Path],
    client: str,
    project: str,
    tools: Path,
    temporal_address: str,
    services: Services,
    tmp_path: Path,
) -> None:
    manifest = write(tools, tmp_path)
    configured = settings(temporal_address, data_dir=tmp_path / "data", trusted_documents=manifest)
    async with running_gateway(configured, services) as gateway, gateway.open(introduction()) as socket:
        operation = (await socket.start_switch(ACME))["id"]
    only = settings(
        temporal_address, data_dir=tmp_path / "data", trusted_documents=manifest, require_trusted_documents=True
    )
    async with running_gateway(only, services) as gateway:
        config = {
            "graphql": f"{gateway.http}/graphql",
            "websocket": gateway.url,
            "token": TOKEN,
            "operation": operation,
        }
        folder = tmp_path / project
        log = tmp_path / "client.log"
        async with said_by(folder / "client.mjs", client, json.dumps(config), log=log, folder=folder) as said:
            answers = [each async for each in said]
        assert len(answers) == 2, log.read_text()
        read, followed = answers
        async with httpx.AsyncClient() as http:
            refused = await http.post(f"{gateway.http}/graphql", json={"query": "{ __typename }"})
    assert read.get("errors") is None
    assert followed.get("errors") is None
    assert read["data"]["viewer"]["user"]["id"] == ADA
    assert followed["data"]["operation"]["id"] == operation
    assert "Only documents of the manifest" in refused.text

"""Manifests that client tools write, and those clients on a gateway that executes only trusted documents."""

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
from tests.clients.npm import installed_project, node_output
from tests.gateway.fakes import ACME, ADA, TOKEN, FakeServices, settings
from tests.gateway.live_gateway import authorization, running_gateway
from tests.stack import ROOT

TOOLS = Path(__file__).parent / "trusted_documents"


@pytest.fixture(scope="session")
def tools() -> Path:
    """The npm project of the tools, with installed packages."""
    return installed_project(TOOLS)


def copy_project(tools: Path, name: str, folder: Path) -> Path:
    """Copy the tool's project to the folder; it shares the installed packages."""
    project = folder / name
    shutil.copytree(tools / name, project)
    shutil.copy(ROOT / "schema.graphql", project)
    shutil.copy(tools / "client.mjs", project)
    (project / "package.json").write_text('{"type": "module"}')
    (project / "node_modules").symlink_to(tools / "node_modules")
    return project


def run_tool(project: Path, *command: str, **environment: str) -> None:
    """Run a command of the project's packages; it must succeed."""
    tool = project / "node_modules" / ".bin" / command[0]
    variables = dict(os.environ) | environment
    completed = subprocess.run(
        [tool, *command[1:]], cwd=project, env=variables, capture_output=True, text=True, timeout=120
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr


def manifest_of_codegen(tools: Path, folder: Path, algorithm: str = "sha256") -> Path:
    """Let graphql-codegen write its manifest and return the path."""
    project = copy_project(tools, "codegen", folder)
    run_tool(project, "graphql-codegen", "--config", "codegen.mjs", "--silent", ALGORITHM=algorithm)
    return project / "generated" / "persisted-documents.json"


def manifest_of_codegen_with_sha1(tools: Path, folder: Path) -> Path:
    """Let graphql-codegen write its manifest with SHA-1 hashes and return the path."""
    return manifest_of_codegen(tools, folder, "sha1")


def manifest_of_apollo(tools: Path, folder: Path) -> Path:
    """Let Apollo's generator write its manifest and return the path."""
    project = copy_project(tools, "apollo", folder)
    run_tool(project, "generate-persisted-query-manifest", "--config", "persisted-query-manifest.config.mjs")
    return project / "persisted-query-manifest.json"


def manifest_of_relay(tools: Path, folder: Path, algorithm: str | None = None) -> Path:
    """Let the Relay compiler write its manifest and return the path."""
    project = copy_project(tools, "relay", folder)
    config = project / "relay.config.json"
    relay_settings = json.loads(config.read_text())
    if algorithm:
        relay_settings["persistConfig"]["algorithm"] = algorithm
    config.write_text(json.dumps(relay_settings))
    (project / "persisted.json").write_text("{}")
    run_tool(project, "relay-compiler")
    return project / "persisted.json"


def manifest_of_relay_with_sha256(tools: Path, folder: Path) -> Path:
    """Let the Relay compiler write its manifest with SHA-256 hashes and return the path."""
    return manifest_of_relay(tools, folder, "SHA256")


def manifest_of_make_documents(tools: Path, folder: Path) -> Path:
    """Write the manifest with the program of ``make documents`` and return the path."""
    project = copy_project(tools, "codegen", folder)
    (project / "schema.graphql").unlink()
    manifest = folder / "documents.json"
    assert main([str(project), str(manifest)]) == 0
    return manifest


@pytest.mark.parametrize(
    ("write_manifest", "client", "project"),
    [
        (manifest_of_codegen, "codegen", "codegen"),
        (manifest_of_codegen_with_sha1, "codegen", "codegen"),
        (manifest_of_codegen, "documentId", "codegen"),
        (manifest_of_codegen, "urql", "codegen"),
        (manifest_of_apollo, "apollo", "apollo"),
        (manifest_of_relay, "relay", "relay"),
        (manifest_of_relay_with_sha256, "relay", "relay"),
        (manifest_of_make_documents, "printed", "codegen"),
    ],
    ids=lambda each: getattr(each, "__name__", None) or each,
)
async def test_client_executes_documents_by_the_manifest_of_its_tool(
    write_manifest: Callable[[Path, Path], Path],
    client: str,
    project: str,
    tools: Path,
    temporal_address: str,
    services: FakeServices,
    tmp_path: Path,
) -> None:
    manifest = write_manifest(tools, tmp_path)
    configured = settings(temporal_address, data_dir=tmp_path / "data", trusted_documents=manifest)
    async with running_gateway(configured, services) as gateway, gateway.open(authorization()) as socket:
        operation = (await socket.start_switch(ACME))["id"]
    trusted_only = settings(
        temporal_address, data_dir=tmp_path / "data", trusted_documents=manifest, require_trusted_documents=True
    )
    async with running_gateway(trusted_only, services) as gateway:
        config = {
            "graphql": f"{gateway.http}/graphql",
            "websocket": gateway.url,
            "token": TOKEN,
            "operation": operation,
        }
        folder = tmp_path / project
        log = tmp_path / "client.log"
        async with node_output(folder / "client.mjs", client, json.dumps(config), log=log, folder=folder) as output:
            responses = [each async for each in output]
        assert len(responses) == 2, log.read_text()
        read, followed = responses
        async with httpx.AsyncClient() as http:
            refused = await http.post(f"{gateway.http}/graphql", json={"query": "{ __typename }"})
    assert read.get("errors") is None
    assert followed.get("errors") is None
    assert read["data"]["viewer"]["user"]["id"] == ADA
    assert followed["data"]["operation"]["id"] == operation
    assert "Only documents of the manifest" in refused.text

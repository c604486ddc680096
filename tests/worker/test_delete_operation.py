"""The command ``python -m worker.operations delete ID``."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from temporalio.client import Client

from activities.operations.service import OperationsService
from contracts.operation_records import OperationRecord
from contracts.operations import OperationKind, operation_id
from infrastructure.temporal.operation_history import to_operation
from tests.databases import create_sqlite_database
from tests.resolvers.scripted import scripts
from tests.servers import reset_workflow
from tests.stack import ROOT, plain_environment
from worker.database import database

UNKNOWN = operation_id(b"", OperationKind.FILE_UPLOAD, tenant_id="", user_id="", key="unknown")


async def run(environment: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    """Run the command; return its exit status, output and error output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker.operations", *arguments),
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), errors.decode()


@pytest.fixture
def environment(temporal_address: str, tmp_path: Path) -> dict[str, str]:
    """The environment variables of the command."""
    url = f"sqlite://{tmp_path / 'adx.sqlite3'}"
    return plain_environment() | {"DATABASE_URL": url, "TEMPORAL_ADDRESS": temporal_address}


async def test_deletes_a_closed_operation_with_all_runs_and_writes_an_audit_event(
    temporal_client: Client, temporal_address: str, environment: dict[str, str], tmp_path: Path
) -> None:
    url = await create_sqlite_database(tmp_path)
    async with scripts(temporal_client) as starter:
        script = await starter.start(with_kind=True)
        operation = await to_operation(await script.handle.describe(), temporal_client)
        async with database(url):
            await OperationsService().write([OperationRecord(operation=operation)])

        code, _, errors = await run(environment, "delete", script.id)
        assert code == 1
        assert "it has not closed" in errors
        await script.move()
        await reset_workflow(temporal_address, script.id)
        await script.end()
        await temporal_client.get_workflow_handle(script.id).result()
        async with asyncio.timeout(15):
            while (await temporal_client.count_workflows(f"WorkflowId = '{script.id}'")).count < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    code, output, errors = await run(environment, "delete", script.id)
    assert code == 0, errors
    assert f"Operation {script.id} is deleted; Temporal deletes its 2 run(s)" in output
    assert "audit.operation_deleted" in output + errors
    async with database(url):
        assert (await OperationsService().look_up([script.id])).deleted == (script.id,)

    code, _, errors = await run(environment, "delete", script.id)
    assert code == 0, errors


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "usage: python -m worker.operations delete ID"),
        (("remove", UNKNOWN), 2, "usage:"),
        (("delete", "no-such-id"), 2, "is not the id of an operation"),
        (("delete", UNKNOWN), 1, "does not exist, neither in the record nor in Temporal"),
    ],
)
async def test_reports_a_wrong_call_without_a_traceback(
    environment: dict[str, str], tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    await create_sqlite_database(tmp_path)
    found, output, errors = await run(environment, *arguments)
    assert (found, output) == (code, "")
    assert message in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "changes", [{"DATABASE_URL": ""}, {"DATABASE_URL": "mysql://host/adx"}, {"TEMPORAL_ADDRESS": "127.0.0.1:1"}]
)
async def test_reports_unusable_settings_without_a_traceback(
    environment: dict[str, str], tmp_path: Path, changes: dict[str, str]
) -> None:
    await create_sqlite_database(tmp_path)
    code, _, errors = await run(environment | changes, "delete", UNKNOWN)
    assert code == (2 if "DATABASE_URL" in changes else 1)
    assert errors
    assert "Traceback" not in errors

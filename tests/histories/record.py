"""Records the histories that every later release must still be able to replay: ``python -m tests.histories.record``."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from tests.workflows import test_log_in, test_switch_tenant
from tests.workflows.staging import ANSWER, Script
from worker.dev.binaries import temporal_test_server

FOLDER = Path(__file__).parent


@asynccontextmanager
async def environment() -> AsyncIterator[WorkflowEnvironment]:
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(temporal_test_server()), data_converter=pydantic_data_converter
    ) as started:
        yield started


async def save(name: str, handle: WorkflowHandle[Any, Any]) -> None:
    history = json.loads((await handle.fetch_history()).to_json(), object_hook=_without_the_machine)
    (FOLDER / f"{name}.json").write_text(json.dumps(history, separators=(",", ":")) + "\n")
    print(name)  # noqa: T201 - for who records


def _without_the_machine(part: dict[str, Any]) -> dict[str, Any]:
    """Stack traces and worker identities tell where it was recorded, and no replay reads them."""
    return {key: value for key, value in part.items() if key not in ("stackTrace", "identity", "binaryChecksum")}


async def record_switches() -> None:
    steps = test_switch_tenant.ACTIVITY_OF
    scripts = {"completed": Script(), "cancelled": Script(cancel_after="create_session")}
    scripts |= {f"failed_at_{step}": Script(after={name: ANSWER}) for step, name in steps.items()}
    scripts["tried_again"] = Script(before={"load_tenant_data": ConnectionError()}, times={"load_tenant_data": 1})
    for name, script in scripts.items():
        async with (
            environment() as started,
            test_switch_tenant.scene(started, Path(tempfile.mkdtemp()), script) as playing,
        ):
            handle = await playing.start()
            await playing.stage.end_of(handle)
            await save(f"switch_tenant.{name}", handle)


async def record_logins() -> None:
    scripts = {"completed": Script(), "cancelled": Script(cancel_after="create_session")}
    scripts |= {f"failed_at_{step}": Script(after={step: ANSWER}) for step in test_log_in.ACTIVITY_OF}
    for name, script in scripts.items():
        async with environment() as started, test_log_in.scene(started, Path(tempfile.mkdtemp()), script) as playing:
            handle = await playing.start()
            await playing.stage.end_of(handle)
            await save(f"log_in.{name}", handle)
    async with (
        environment() as started,
        test_log_in.scene(started, Path(tempfile.mkdtemp()), Script(), account="alan") as playing,
    ):
        handle = await playing.start()
        await test_log_in.waiting(handle)
        await test_log_in.submit(handle, test_log_in.wrong_code())
        await test_log_in.submit(handle, test_log_in.right_code())
        await playing.stage.end_of(handle)
        await save("log_in.with_mfa", handle)


async def main() -> None:
    await record_switches()
    await record_logins()


if __name__ == "__main__":
    asyncio.run(main())

"""`make dev` as a new developer uses it: start, stop, restart with all data, and one-line error messages."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.end_to_end.client import Client
from tests.servers import HOST
from tests.stack import ROOT, Stack, plain_environment, start_dev_stack
from worker.dev.ports import free_port


def start(data_dir: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the development stack, which is expected to refuse to start."""
    ports = {"GATEWAY_PORT": "0", "TEMPORAL_PORT": "0", "TEMPORAL_UI_PORT": "0"}
    variables = plain_environment() | ports | {"DATA_DIR": str(data_dir)} | environment
    return subprocess.run(
        [sys.executable, "-m", "worker.dev"], env=variables, cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def processes_on(data_dir: Path) -> list[str]:
    """Return the command lines of processes that name the database of Temporal in this folder."""
    if Path("/proc/self/cmdline").exists():
        lines = [_command_line(process) for process in Path("/proc").glob("[0-9]*")]
    else:
        found = subprocess.run(["ps", "-axww", "-o", "args"], capture_output=True, text=True, check=True)
        lines = found.stdout.splitlines()
    return [line for line in lines if str(data_dir / "temporal.db") in line]


def _command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""  # the process has ended


def check_one_line_refusal(completed: subprocess.CompletedProcess[str], *fragments: str) -> None:
    """Check that the process failed with one line that contains these fragments."""
    assert completed.returncode == 1
    assert completed.stdout == ""
    assert len(completed.stderr.splitlines()) == 1, completed.stderr
    assert all(fragment in completed.stderr for fragment in fragments), completed.stderr


async def test_keeps_sessions_and_data_over_a_restart(tmp_path: Path) -> None:
    with start_dev_stack(tmp_path) as stack:
        ada = Client(stack)
        await ada.log_in("ada@example.com")
        await ada.execute("mutation { updatePreferences(input: {theme: DARK}) { preferences { theme } } }")
        assert processes_on(tmp_path)
    assert stack.processes["dev"].returncode == 0
    assert not processes_on(tmp_path)

    with start_dev_stack(tmp_path) as stack:
        response = await Client(stack, ada.token).execute("{ viewer { user { email } preferences { theme } } }")
    assert response["viewer"] == {"user": {"email": "ada@example.com"}, "preferences": {"theme": "DARK"}}


async def test_continues_a_running_operation_after_a_restart(tmp_path: Path) -> None:
    with start_dev_stack(tmp_path) as stack:
        ada = Client(stack)
        await ada.log_in("ada@example.com")
        globex = await ada.tenant_id("Globex")
        # The step cannot write, so it is retried for as long as the process runs: some seconds.
        block_step = (
            "CREATE TRIGGER standstill BEFORE INSERT ON users_idempotency_record BEGIN SELECT RAISE(ABORT, 'busy'); END"
        )
        with sqlite3.connect(tmp_path / "adx.db", isolation_level=None) as database:
            database.execute(block_step)
            operation_id, token = await ada.start_switch(globex)
            async with ada.follow(operation_id) as states:
                async for state in states:
                    if state["progress"]["currentStep"] == "set_tenant":
                        break
            stack.processes["dev"].terminate()
            stack.processes["dev"].wait(30)
            database.execute("DROP TRIGGER standstill")
        database.close()

    with start_dev_stack(tmp_path) as stack:
        last = await Client(stack, ada.token).wait_for_final_state(operation_id)
        assert last["status"] == "COMPLETED", last
        assert await Client(stack, token).current_tenant() == "Globex"


async def test_keeps_all_data_and_leaves_no_process_when_killed(tmp_path: Path) -> None:
    with start_dev_stack(tmp_path) as stack:
        ada = Client(stack)
        await ada.log_in("ada@example.com")
        stack.processes["dev"].kill()
        stack.processes["dev"].wait()
    if sys.platform == "linux":
        async with asyncio.timeout(10):
            while processes_on(tmp_path):  # noqa: ASYNC110 - the processes are not children
                await asyncio.sleep(0.1)

    with start_dev_stack(tmp_path) as stack:
        assert await Client(stack, ada.token).current_tenant() == "Acme"


def test_stops_on_ctrl_c(tmp_path: Path) -> None:
    with start_dev_stack(tmp_path) as stack:
        stack.processes["dev"].send_signal(signal.SIGINT)
        assert stack.processes["dev"].wait(30) == 0
    assert not processes_on(tmp_path)


def test_a_second_signal_does_not_interrupt_the_stop(tmp_path: Path) -> None:
    with start_dev_stack(tmp_path) as stack:
        for _ in range(3):
            stack.processes["dev"].send_signal(signal.SIGINT)
            time.sleep(0.3)
        assert stack.processes["dev"].wait(30) == 0
    assert not processes_on(tmp_path)


@pytest.mark.parametrize("variable", ["GATEWAY_PORT", "TEMPORAL_PORT", "TEMPORAL_UI_PORT"])
def test_names_a_port_that_is_in_use(tmp_path: Path, variable: str) -> None:
    with socket.create_server((HOST, 0)) as occupied:
        port = str(occupied.getsockname()[1])
        completed = start(tmp_path / "data", **{variable: port})
    check_one_line_refusal(completed, port, variable)
    assert not (tmp_path / "data").exists()


def test_refuses_an_invalid_port(tmp_path: Path) -> None:
    check_one_line_refusal(start(tmp_path, GATEWAY_PORT="eighty"), "GATEWAY_PORT")


def test_explains_how_to_get_a_missing_binary(tmp_path: Path) -> None:
    check_one_line_refusal(start(tmp_path, TEMPORAL_CLI=str(tmp_path / "nowhere")), "TEMPORAL_CLI", "nowhere")


def test_names_the_log_when_the_temporal_server_ends_immediately(tmp_path: Path) -> None:
    check_one_line_refusal(start(tmp_path, TEMPORAL_CLI="/bin/false"), str(tmp_path / "temporal.log"))


def test_refuses_a_folder_that_another_stack_uses(dev_stack: Stack) -> None:
    check_one_line_refusal(start(dev_stack.data_dir), "DATA_DIR", str(dev_stack.data_dir))


def test_refuses_a_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_one_line_refusal(start(tmp_path / "file" / "data"), "DATA_DIR")


def test_only_the_owner_can_read_its_keys(dev_stack: Stack) -> None:
    assert (dev_stack.data_dir / "keys.json").stat().st_mode & 0o777 == 0o600


def test_ignores_variables_of_another_temporal_server(tmp_path: Path) -> None:
    with start_dev_stack(tmp_path, TEMPORAL_ADDRESS="192.0.2.1:1", TEMPORAL_NAMESPACE="elsewhere", TEMPORAL_TLS="1"):
        pass


def test_make_forwards_a_signal_and_leaves_no_process(tmp_path: Path) -> None:
    ports = {name: str(free_port(HOST)) for name in ("GATEWAY_PORT", "TEMPORAL_PORT", "TEMPORAL_UI_PORT")}
    variables = plain_environment() | ports | {"DATA_DIR": str(tmp_path)}
    for name in [name for name in variables if re.match(r"MAKE|MFLAGS", name)]:
        del variables[name]  # the test may run under `make test`
    with subprocess.Popen(["make", "dev"], env=variables, cwd=ROOT, stdout=subprocess.PIPE, text=True) as make:
        assert make.stdout is not None
        assert any("ready" in line for line in make.stdout)
        os.kill(make.pid, signal.SIGTERM)
        make.wait(30)
    assert not processes_on(tmp_path)
    assert is_port_free(ports["GATEWAY_PORT"])


def is_port_free(port: str) -> bool:
    """Return whether the port is free; raise OSError if not."""
    socket.create_server((HOST, int(port))).close()
    return True

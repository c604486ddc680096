"""`make dev` as a newcomer meets it: it starts, stops, keeps everything, and says plainly what is in its way."""

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
    """Run it where it is expected to refuse."""
    ports = {"GATEWAY_PORT": "0", "TEMPORAL_PORT": "0", "TEMPORAL_UI_PORT": "0"}
    told = plain_environment() | ports | {"DATA_DIR": str(data_dir)} | environment
    return subprocess.run(
        [sys.executable, "-m", "worker.dev"], env=told, cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def processes_on(data_dir: Path) -> list[str]:
    """The command lines that name the folder: the Temporal server's does."""
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
        return ""  # it has ended


def refuses_in_one_sentence(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr


async def test_keeps_sessions_and_data_over_a_restart(tmp_path: Path) -> None:
    with start_dev_stack(tmp_path) as stack:
        ada = Client(stack)
        await ada.log_in("ada@example.com")
        await ada.ask("mutation { updatePreferences(input: {theme: DARK}) { preferences { theme } } }")
        assert processes_on(tmp_path)
    assert stack.processes["dev"].returncode == 0
    assert not processes_on(tmp_path)

    with start_dev_stack(tmp_path) as stack:
        answer = await Client(stack, ada.token).ask("{ viewer { user { email } preferences { theme } } }")
    assert answer["viewer"] == {"user": {"email": "ada@example.com"}, "preferences": {"theme": "DARK"}}


async def test_goes_on_with_a_running_operation_after_a_restart(tmp_path: Path) -> None:
    with start_dev_stack(tmp_path) as stack:
        ada = Client(stack)
        await ada.log_in("ada@example.com")
        globex = await ada.tenant("Globex")
        # The step cannot write, so it is tried again for as long as the process runs: some seconds.
        refuse_effects = (
            "CREATE TRIGGER standstill BEFORE INSERT ON users_idempotency_record BEGIN SELECT RAISE(ABORT, 'busy'); END"
        )
        with sqlite3.connect(tmp_path / "adx.db", isolation_level=None) as database:
            database.execute(refuse_effects)
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
        last = await Client(stack, ada.token).to_its_end(operation_id)
        assert last["status"] == "COMPLETED", last
        assert await Client(stack, token).current_tenant() == "Globex"


async def test_loses_nothing_and_leaves_no_process_behind_when_it_is_killed(tmp_path: Path) -> None:
    with start_dev_stack(tmp_path) as stack:
        ada = Client(stack)
        await ada.log_in("ada@example.com")
        stack.processes["dev"].kill()
        stack.processes["dev"].wait()
    if sys.platform == "linux":
        async with asyncio.timeout(10):
            while processes_on(tmp_path):  # noqa: ASYNC110 - nobody tells of another process
                await asyncio.sleep(0.1)

    with start_dev_stack(tmp_path) as stack:
        assert await Client(stack, ada.token).current_tenant() == "Acme"


def test_stops_at_ctrl_c(tmp_path: Path) -> None:
    with start_dev_stack(tmp_path) as stack:
        stack.processes["dev"].send_signal(signal.SIGINT)
        assert stack.processes["dev"].wait(30) == 0
    assert not processes_on(tmp_path)


def test_a_second_signal_does_not_cut_the_stop_short(tmp_path: Path) -> None:
    with start_dev_stack(tmp_path) as stack:
        for _ in range(3):
            stack.processes["dev"].send_signal(signal.SIGINT)
            time.sleep(0.3)
        assert stack.processes["dev"].wait(30) == 0
    assert not processes_on(tmp_path)


@pytest.mark.parametrize("variable", ["GATEWAY_PORT", "TEMPORAL_PORT", "TEMPORAL_UI_PORT"])
def test_says_which_port_is_taken(tmp_path: Path, variable: str) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = str(taken.getsockname()[1])
        done = start(tmp_path / "data", **{variable: port})
    refuses_in_one_sentence(done, port, variable)
    assert not (tmp_path / "data").exists()


def test_says_that_a_port_is_no_port(tmp_path: Path) -> None:
    refuses_in_one_sentence(start(tmp_path, GATEWAY_PORT="eighty"), "GATEWAY_PORT")


def test_says_how_to_get_a_missing_binary(tmp_path: Path) -> None:
    refuses_in_one_sentence(start(tmp_path, TEMPORAL_CLI=str(tmp_path / "nowhere")), "TEMPORAL_CLI", "nowhere")


def test_says_where_the_log_is_when_the_temporal_server_ends_at_once(tmp_path: Path) -> None:
    refuses_in_one_sentence(start(tmp_path, TEMPORAL_CLI="/bin/false"), str(tmp_path / "temporal.log"))


def test_says_that_another_stack_uses_the_folder(dev_stack: Stack) -> None:
    refuses_in_one_sentence(start(dev_stack.data_dir), "DATA_DIR", str(dev_stack.data_dir))


def test_says_that_the_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refuses_in_one_sentence(start(tmp_path / "file" / "data"), "DATA_DIR")


def test_keeps_its_keys_to_itself(dev_stack: Stack) -> None:
    assert (dev_stack.data_dir / "keys.json").stat().st_mode & 0o777 == 0o600


def test_ignores_what_names_a_temporal_elsewhere(tmp_path: Path) -> None:
    with start_dev_stack(tmp_path, TEMPORAL_ADDRESS="192.0.2.1:1", TEMPORAL_NAMESPACE="elsewhere", TEMPORAL_TLS="1"):
        pass


def test_make_passes_a_signal_on_and_leaves_no_process_behind(tmp_path: Path) -> None:
    ports = {name: str(free_port(HOST)) for name in ("GATEWAY_PORT", "TEMPORAL_PORT", "TEMPORAL_UI_PORT")}
    told = plain_environment() | ports | {"DATA_DIR": str(tmp_path)}
    for name in [name for name in told if re.match(r"MAKE|MFLAGS", name)]:
        del told[name]  # this may run under `make test`
    with subprocess.Popen(["make", "dev"], env=told, cwd=ROOT, stdout=subprocess.PIPE, text=True) as make:
        assert make.stdout is not None
        assert any("ready" in line for line in make.stdout)
        os.kill(make.pid, signal.SIGTERM)
        make.wait(30)
    assert not processes_on(tmp_path)
    assert start_again_is_possible(ports["GATEWAY_PORT"])


def start_again_is_possible(port: str) -> bool:
    socket.create_server((HOST, int(port))).close()
    return True

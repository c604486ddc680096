"""The gateway process: which modules it loads and how it reports that it cannot start."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.settings import Settings
from infrastructure.settings_validation import format_errors
from tests.gateway.fakes import KEY


def test_gateway_loads_no_database_modules() -> None:
    program = (
        "import sys, gateway.app, gateway.__main__\n"
        "print([name for name in ('tortoise', 'asyncpg', 'aiosqlite', 'worker') if name in sys.modules])"
    )
    completed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert completed.stdout == "[]\n"


def test_missing_settings_end_the_process_with_a_one_line_message() -> None:
    variables = {name: value for name, value in os.environ.items() if not name.endswith("_KEY")}
    completed = subprocess.run([sys.executable, "-m", "gateway"], capture_output=True, text=True, env=variables)
    assert completed.returncode == 2
    assert completed.stderr.startswith("The environment is not right: SECRET_KEY")
    assert completed.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "invalid_settings",
    [
        {"secret_key": "short"},
        {"codec_keys": "nonsense"},
        {"storage_url": "ftp://x"},
        {"environment": "production"},
        {"gateway_port": 70_000},
    ],
)
def test_message_about_invalid_settings_contains_no_values(invalid_settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(**{"secret_key": KEY, "service_key": KEY} | invalid_settings)  # type: ignore[arg-type]
    message = format_errors(caught.value)
    assert "short" not in message
    assert "nonsense" not in message


def test_unreachable_temporal_ends_the_process_with_a_one_line_message(tmp_path: Path) -> None:
    environment = {
        "DATA_DIR": str(tmp_path),
        "SECRET_KEY": KEY,
        "SERVICE_KEY": KEY,
        "TEMPORAL_ADDRESS": "127.0.0.1:1",
        "GATEWAY_PORT": "0",
    }
    completed = subprocess.run(
        [sys.executable, "-m", "gateway"], capture_output=True, text=True, env=os.environ | environment
    )
    assert completed.returncode == 1
    assert completed.stderr.startswith("The gateway could not start: Temporal does not answer at ")
    assert completed.stderr.count("\n") == 1


def test_occupied_port_ends_the_process_with_a_one_line_message(temporal_address: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = str(occupied.getsockname()[1])
        environment = {
            "SECRET_KEY": KEY,
            "SERVICE_KEY": KEY,
            "TEMPORAL_ADDRESS": temporal_address,
            "GATEWAY_PORT": port,
        }
        environment |= {"DATA_DIR": str(tmp_path)}
        completed = subprocess.run(
            [sys.executable, "-m", "gateway"], capture_output=True, text=True, env=os.environ | environment
        )
    assert completed.returncode == 1
    assert completed.stderr.startswith(f"The gateway cannot listen on 127.0.0.1:{port}: Address already in use")
    assert completed.stderr.count("\n") == 1

"""The web process as such: what it loads, and how it refuses to start."""

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


def test_the_gateway_never_loads_a_database() -> None:
    program = (
        "import sys, gateway.app, gateway.__main__\n"
        "print([name for name in ('tortoise', 'asyncpg', 'aiosqlite', 'worker') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_missing_settings_end_it_with_one_sentence() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_KEY")}
    done = subprocess.run([sys.executable, "-m", "gateway"], capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert done.stderr.startswith("The environment is not right: SECRET_KEY")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"secret_key": "short"},
        {"codec_keys": "nonsense"},
        {"storage_url": "ftp://x"},
        {"environment": "production"},
        {"gateway_port": 70_000},
    ],
)
def test_settings_that_are_wrong_are_told_without_their_values(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(**{"secret_key": KEY, "service_key": KEY} | wrong)  # type: ignore[arg-type]
    sentence = format_errors(caught.value)
    assert "short" not in sentence
    assert "nonsense" not in sentence


def test_a_temporal_that_does_not_answer_ends_it_with_one_sentence(tmp_path: Path) -> None:
    told = {
        "DATA_DIR": str(tmp_path),
        "SECRET_KEY": KEY,
        "SERVICE_KEY": KEY,
        "TEMPORAL_ADDRESS": "127.0.0.1:1",
        "GATEWAY_PORT": "0",
    }
    done = subprocess.run([sys.executable, "-m", "gateway"], capture_output=True, text=True, env=os.environ | told)
    assert done.returncode == 1
    assert done.stderr.startswith("The gateway could not start: Temporal does not answer at ")
    assert done.stderr.count("\n") == 1


def test_a_taken_port_ends_it_with_one_sentence(temporal_address: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        told = {"SECRET_KEY": KEY, "SERVICE_KEY": KEY, "TEMPORAL_ADDRESS": temporal_address, "GATEWAY_PORT": port}
        told |= {"DATA_DIR": str(tmp_path)}
        done = subprocess.run([sys.executable, "-m", "gateway"], capture_output=True, text=True, env=os.environ | told)
    assert done.returncode == 1
    assert done.stderr.startswith(f"The gateway cannot listen on 127.0.0.1:{port}: Address already in use")
    assert done.stderr.count("\n") == 1

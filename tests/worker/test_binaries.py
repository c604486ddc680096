"""Server programs are found by a variable first, then on PATH, then in Python packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.dev.binaries import BinaryMissing, postgres_folder, redis_server, temporal_cli


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """An executable file named ``temporal``."""
    path = tmp_path / "temporal"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_variable_has_precedence(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_CLI", str(program))
    assert temporal_cli() == program


def test_path_is_searched_without_the_variable(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEMPORAL_CLI", raising=False)
    monkeypatch.setenv("PATH", str(program.parent))
    assert temporal_cli() == program


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_redis_and_valkey_are_found_on_the_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_SERVER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    program = tmp_path / name
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert redis_server() == program


def test_packages_are_searched_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEMPORAL_CLI", raising=False)
    monkeypatch.delenv("POSTGRES_BIN", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("REDIS_SERVER", raising=False)
    assert temporal_cli().is_file()
    assert redis_server().name == "valkey-server"
    assert (postgres_folder() / "initdb").is_file()


def test_names_the_variable_of_a_program_that_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_SERVER", str(tmp_path / "nowhere"))
    with pytest.raises(BinaryMissing, match="REDIS_SERVER"):
        redis_server()

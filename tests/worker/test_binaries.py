"""Where servers are looked for: what is named first, then PATH, then the packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.dev.binaries import BinaryMissing, postgres_folder, redis_server, temporal_cli


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "temporal"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_named_program_comes_first(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_CLI", str(program))
    assert temporal_cli() == program


def test_then_what_is_on_the_path(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_then_what_a_package_brings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEMPORAL_CLI", raising=False)
    monkeypatch.delenv("POSTGRES_BIN", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("REDIS_SERVER", raising=False)
    assert temporal_cli().is_file()
    assert redis_server().name == "valkey-server"
    assert (postgres_folder() / "initdb").is_file()


def test_a_named_program_that_is_none_is_said_to_be_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_SERVER", str(tmp_path / "nowhere"))
    with pytest.raises(BinaryMissing, match="REDIS_SERVER"):
        redis_server()

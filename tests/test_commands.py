"""Commands print the reason for invalid arguments or settings in one sentence, without a traceback."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.stack import ROOT, plain_environment

KEY = "k" * 32
UNREACHABLE = "127.0.0.1:9"
UNWRITABLE = "/proc/adx"
"""A folder that even root cannot create."""


@pytest.fixture
def port_in_use() -> Iterator[int]:
    """A port that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield int(listening.getsockname()[1])


def run_command(*command: str, cwd: Path = ROOT, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run the command; return its exit status and output, which must be at most three lines without a traceback."""
    inherited = plain_environment()
    process = subprocess.run(
        command, cwd=cwd, env=inherited | dict(environment or {}), capture_output=True, text=True, timeout=90
    )
    text = process.stdout + process.stderr
    assert "Traceback" not in text, text
    assert len(text.splitlines()) <= 3, text
    return process.returncode, text


GATEWAY = {"SECRET_KEY": KEY, "SERVICE_KEY": KEY, "GATEWAY_PORT": "0"}
WORKER = {"SERVICE_KEY": KEY, "DATABASE_URL": "sqlite://:memory:", "TEMPORAL_ADDRESS": UNREACHABLE}
ANY_PORT = {"GATEWAY_PORT": "0", "TEMPORAL_PORT": "0", "TEMPORAL_UI_PORT": "0"}


@pytest.mark.parametrize(
    ("module", "environment", "sentence"),
    [
        ("gateway", {}, "SECRET_KEY"),
        ("gateway", GATEWAY | {"GATEWAY_PORT": "x"}, "GATEWAY_PORT"),
        ("gateway", GATEWAY | {"DATA_DIR": UNWRITABLE}, f"The folder {UNWRITABLE}/files (STORAGE_URL or DATA_DIR)"),
        ("gateway", GATEWAY | {"TEMPORAL_ADDRESS": UNREACHABLE}, f"Temporal does not answer at {UNREACHABLE}"),
        ("gateway", GATEWAY | {"REDIS_URL": "nonsense"}, "must be the URL of a Redis"),
        ("gateway", GATEWAY | {"TRUSTED_DOCUMENTS": "/gone"}, "/gone cannot be read: No such file or directory"),
        ("gateway", GATEWAY | {"TLS_CERT": "/gone", "TLS_KEY": "/gone"}, "TLS_CERT Path does not point to a file"),
        ("worker", {}, "usage: python -m worker "),
        ("worker nonsense", {}, "usage: python -m worker "),
        ("worker users", {}, "SERVICE_KEY"),
        ("worker users", WORKER, f"Temporal does not answer at {UNREACHABLE}"),
        ("worker users", WORKER | {"DATABASE_URL": "nonsense"}, "must be the URL of a database"),
        ("worker users", WORKER | {"REDIS_URL": "http://x"}, "must be the URL of a Redis"),
        ("worker.migrate", {}, "DATABASE_URL is not valid"),
        ("worker.migrate --nonsense", {}, "usage: python -m worker.migrate"),
        ("worker.migrate", {"DATABASE_URL": f"postgres://a:secret@{UNREACHABLE}/x"}, "The database x at 127.0.0.1:9"),
        ("worker.migrate", {"DATABASE_URL": f"sqlite://{UNWRITABLE}/x"}, f"The database {UNWRITABLE}/x"),
        ("worker.versions", {}, "usage: python -m worker.versions"),
        (
            "worker.versions current",
            {"TEMPORAL_ADDRESS": UNREACHABLE, "WORKER_DEPLOYMENT": "a", "WORKER_BUILD_ID": "1"},
            f"Temporal does not answer at {UNREACHABLE}",
        ),
        ("worker.dev", ANY_PORT | {"DATA_DIR": UNWRITABLE}, f"{UNWRITABLE} is not writable"),
        ("worker.dev", {"GATEWAY_PORT": "x"}, "GATEWAY_PORT"),
        ("worker.dev extra", {}, "usage: python -m worker.dev"),
        ("schema --nonsense", {}, "usage: python -m schema"),
        ("gateway.http.document_manifest", {}, "FOLDER FILE"),
        ("gateway.http.document_manifest /gone x", {}, "There is no folder /gone"),
        ("gateway.security.pseudonyms", {}, "Set SECRET_KEY"),
        ("gateway.security.pseudonyms x", {"SECRET_KEY": "short"}, "SECRET_KEY has a key of less than 32 characters"),
        ("tools.scaffold", {}, "make operation NAME="),
    ],
)
def test_states_in_one_sentence_why_it_does_not_start(
    module: str, environment: Mapping[str, str], sentence: str
) -> None:
    status, text = run_command(sys.executable, "-m", *module.split(), environment=environment)
    assert status in {1, 2}
    assert sentence in text
    assert ":secret@" not in text


def test_reports_a_port_that_is_in_use(port_in_use: int, temporal_address: str, tmp_path: Path) -> None:
    variables = {"TEMPORAL_ADDRESS": temporal_address, "DATA_DIR": str(tmp_path)}
    status, text = run_command(
        sys.executable, "-m", "gateway", environment=GATEWAY | variables | {"GATEWAY_PORT": str(port_in_use)}
    )
    assert (status, f"The gateway cannot listen on 127.0.0.1:{port_in_use}: " in text) == (1, True)
    dev = ANY_PORT | {"GATEWAY_PORT": str(port_in_use), "DATA_DIR": str(tmp_path / "dev")}
    status, text = run_command(sys.executable, "-m", "worker.dev", environment=dev)
    assert (status, f"Port {port_in_use}" in text) == (1, True)


@pytest.mark.parametrize("target", ["nonsense", "lint", "serve"])
def test_unknown_make_target_refers_to_make_help(target: str) -> None:
    status, text = run_command("make", target)
    assert status == 2
    assert text.startswith(f"{target} is not a target: make help lists the targets.")


@pytest.mark.parametrize("version", [None, "0.1.0"])
def test_make_dev_refuses_a_data_folder_of_another_version(tmp_path: Path, version: str | None) -> None:
    """A folder without a version was written by release 0.1.0."""
    (tmp_path / "keys.json").write_text("{}")
    if version is not None:
        (tmp_path / "version").write_text(version)
    status, text = run_command(sys.executable, "-m", "worker.dev", environment=ANY_PORT | {"DATA_DIR": str(tmp_path)})
    assert status == 1
    assert text == (
        f"{tmp_path} holds data of another version, which is not kept: delete it, or set DATA_DIR to another folder.\n"
    )


def test_make_help_lists_every_target() -> None:
    process = subprocess.run(
        ["make", "help"], cwd=ROOT, env=plain_environment(), capture_output=True, text=True, check=True
    )
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {line.split()[1] for line in process.stdout.splitlines()} == set(phony.split())


@pytest.mark.parametrize(("programs", "sentence"), [((), "make web needs Node.js"), (("node",), "make web needs npm")])
def test_make_web_reports_the_missing_program(tmp_path: Path, programs: tuple[str, ...], sentence: str) -> None:
    """PATH contains only the given programs of Node.js."""
    for name in ("sh", "make", "dirname", "env", "test", *programs):
        found = shutil.which(name)
        if found:
            (tmp_path / name).symlink_to(found)
        elif programs:
            pytest.skip(f"{name} is not on PATH.")
    status, text = run_command("make", "web", environment={"PATH": str(tmp_path)})
    assert status == 2
    assert text.startswith(sentence)


def test_make_web_refuses_an_old_node(tmp_path: Path) -> None:
    for name in ("sh", "make", "dirname"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    for name, script in (("node", '[ "$1" = --version ] && echo v18.0.0 && exit; exit 1'), ("npm", "exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    status, text = run_command("make", "web", environment={"PATH": str(tmp_path)})
    assert status == 2
    assert text.startswith("make web needs a newer Node.js than v18.0.0")


def test_make_docs_prints_the_url_of_the_documentation(tmp_path: Path) -> None:
    recipe = subprocess.run(
        ["make", "--dry-run", "-o", "environment", "docs"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"open file://{ROOT}/.site/index.html" in recipe.stdout


def test_environment_script_refuses_a_folder_that_is_not_writable(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        if shutil.which("setpriv") is None:
            pytest.skip("The tests run as root, which can write everywhere, and setpriv is not installed.")
    else:
        drop = []
    for name in ("environment.sh", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    for folder in (tmp_path, *tmp_path.parents):
        if "pytest" in folder.name:
            folder.chmod(0o755)
    tmp_path.chmod(0o555)
    status, text = run_command(*drop, "sh", "environment.sh", ".venv", cwd=tmp_path)
    assert (status, "is not writable" in text) == (1, True)

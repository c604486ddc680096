"""The pytest plugin xdist_scheduling: exclusive tests, resource groups and timeouts."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from tests.stack import ROOT
from tests.xdist_scheduling import LONG, LONG_TIMEOUT_SECONDS, RESOURCE_GROUPS, RUN_FIRST

RECORDING_TEST = """
import os, time, pytest

@pytest.mark.parametrize("number", range(4))
{mark}def test_takes_a_moment(number):
    started = time.monotonic()
    time.sleep(0.1)
    with open({record!r}, "a") as record:
        record.write(f"{name} {{os.getpid()}} {{started}} {{time.monotonic()}}\\n")
"""


def test_no_other_test_runs_while_an_exclusive_test_runs(tmp_path: Path) -> None:
    record = str(tmp_path / "record")
    for name, mark in (("one", ""), ("other", ""), ("alone", '@pytest.mark.xdist_group("alone")\n')):
        (tmp_path / f"test_{name}.py").write_text(RECORDING_TEST.format(mark=mark, record=record, name=name))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.xdist_scheduling",
        "-c",
        "/dev/null",
        "--rootdir",
        str(tmp_path),
    ]
    command += ["--basetemp", str(tmp_path / "temporary"), "-n", "2", "--dist", "loadgroup", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

    ran = [line.split() for line in (tmp_path / "record").read_text().splitlines()]
    assert len(ran) == 12
    assert len({process for name, process, _, _ in ran if name != "alone"}) == 2, "the files did not run side by side"
    for (_, _, started, ended), (name, _, other_started, other_ended) in itertools.permutations(ran, 2):
        if name == "alone":
            assert float(ended) <= float(other_started) or float(other_ended) <= float(started)


HANGING = """
import asyncio, pytest

@pytest.fixture
async def closed():
    yield
    print("the fixture was closed")

async def test_waits_for_ever(closed):
    await asyncio.Event().wait()

async def test_comes_after_it():
    pass
"""


def test_hanging_test_fails_by_timeout_and_the_next_test_runs(tmp_path: Path) -> None:
    (tmp_path / "test_hanging.py").write_text(HANGING)
    options = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), "-p", "no:cacheprovider", "-rA"]
    command = [sys.executable, "-m", "pytest", *options, "--timeout", "1", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED test_hanging.py::test_waits_for_ever - Failed: Timeout (>1.0s)" in done.stdout
    assert "the fixture was closed" in done.stdout
    assert "1 failed, 1 passed" in done.stdout


def test_every_test_has_a_timeout(pytestconfig: pytest.Config) -> None:
    timeout, last_resort = (float(pytestconfig.getini(name)) for name in ("timeout", "faulthandler_timeout"))
    assert 0 < timeout < LONG_TIMEOUT_SECONDS < last_resort
    assert pytestconfig.getini("faulthandler_exit_on_timeout") is True


def test_logged_errors_are_printed_without_variables(capsys: pytest.CaptureFixture[str]) -> None:
    variable = "a value " * 3  # noqa: F841 - it must not be printed
    try:
        raise ValueError("the fact")
    except ValueError:
        structlog.get_logger().exception("failed")
    printed = capsys.readouterr().out
    assert "ValueError: the fact" in printed
    assert "a value a value" not in printed


@pytest.mark.parametrize("start", [*RUN_FIRST, *LONG, *itertools.chain(*RESOURCE_GROUPS.values())])
def test_every_named_test_file_exists(start: str) -> None:
    assert list(ROOT.glob(f"{start}*"))

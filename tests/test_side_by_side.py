"""How the tests are shared out: what measures has the machine for itself, and what shares a stack stays together."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from tests.side_by_side import FIRST, GROUNDS
from tests.stack import ROOT

MEASURED = """
import os, time, pytest

@pytest.mark.parametrize("number", range(4))
{mark}def test_takes_a_moment(number):
    began = time.monotonic()
    time.sleep(0.1)
    with open({told!r}, "a") as told:
        told.write(f"{name} {{os.getpid()}} {{began}} {{time.monotonic()}}\\n")
"""


def test_nothing_else_runs_beside_what_runs_alone(tmp_path: Path) -> None:
    told = str(tmp_path / "told")
    for name, mark in (("one", ""), ("other", ""), ("alone", '@pytest.mark.xdist_group("alone")\n')):
        (tmp_path / f"test_{name}.py").write_text(MEASURED.format(mark=mark, told=told, name=name))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.side_by_side",
        "-c",
        "/dev/null",
        "--rootdir",
        str(tmp_path),
    ]
    command += ["--basetemp", str(tmp_path / "temporary"), "-n", "2", "--dist", "loadgroup", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

    ran = [line.split() for line in (tmp_path / "told").read_text().splitlines()]
    assert len(ran) == 12
    assert len({process for name, process, _, _ in ran if name != "alone"}) == 2, "the files did not run side by side"
    for (_, _, began, ended), (name, _, other_began, other_ended) in itertools.permutations(ran, 2):
        if name == "alone":
            assert float(ended) <= float(other_began) or float(other_ended) <= float(began)


@pytest.mark.parametrize("start", [*FIRST, *itertools.chain(*GROUNDS.values())])
def test_what_is_named_is_there(start: str) -> None:
    assert list(ROOT.glob(f"{start}*"))

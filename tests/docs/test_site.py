"""The documentation site builds without a warning, with the pages that are generated from the code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from contracts.operations import STEPS
from tests.stack import ROOT


def test_site_builds_without_broken_links_and_lists_every_step(tmp_path: Path) -> None:
    environment = dict(os.environ) | {"NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "compensation.html").read_text()
    assert all(f"<td>{step}</td>" in page for steps in STEPS.values() for step in steps)
    assert "<code>Users.undo_update_user_tenant</code>" in page
    assert "<td><code>login</code>, <code>submitMfaCode</code></td>" in page
    assert "switchTenant" in (tmp_path / "contract.html").read_text()

"""The README's walk-through, run to the letter."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from tests.stack import ROOT, Stack


def test_the_walk_through_works_as_it_is_written(dev_stack: Stack, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    walk = readme[readme.index("## Walk-through") : readme.index("## The API")]
    script = "\n".join(re.findall(r"```sh\n(.*?)```", walk, re.DOTALL))
    script = script.replace("http://127.0.0.1:8080", dev_stack.url).replace("/tmp/adx-cookies", str(tmp_path / "jar"))
    done = subprocess.run(["sh", "-eu", "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""
    logged_in, around, switched, listed, left = (json.loads(line) for line in done.stdout.splitlines() if line)

    assert logged_in["data"]["login"]["operation"]["status"] == "COMPLETED"
    assert logged_in["data"]["login"]["viewer"] == {"user": {"name": "Ada Lovelace"}}
    assert len(around["data"]["viewer"]["tenantOverview"]["availableTenants"]) == 2
    assert switched["data"]["switchTenant"]["operation"]["status"] == "COMPLETED"
    assert switched["data"]["switchTenant"]["viewer"]["tenantOverview"]["currentTenant"] == {"name": "Globex"}
    kinds = [node["kind"] for node in listed["data"]["viewer"]["operations"]["nodes"]]
    assert "TENANT_SWITCH" in kinds
    assert left["data"] == {"logout": {"ok": True}}

"""The commands of the README's walk-through run as written, and their responses are those that the README shows."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contracts.operations import STEPS, OperationKind
from tests.end_to_end.client import Client
from tests.stack import ROOT, Stack


def json_values(text: str) -> Iterator[Any]:
    """Yield each of the JSON values that follow one another in the text."""
    decoder, position = json.JSONDecoder(), 0
    while position < len(text):
        value, position = decoder.raw_decode(text, position)
        yield value
        position += len(text[position:]) - len(text[position:].lstrip())


def without_ids_and_times(response: Any) -> Any:
    """Replace the values that differ between two runs."""
    text = re.sub(r'"(id|startedAt|closedAt)": "[^"]*"', r'"\1": "..."', json.dumps(response))
    return json.loads(text)


async def test_walk_through_prints_the_responses_that_the_readme_shows(dev_stack: Stack, tmp_path: Path) -> None:
    ada = Client(dev_stack)
    await ada.log_in("ada@example.com")
    await ada.ensure_tenant("Acme")  # as with the demo data: other tests use the same stack
    readme = (ROOT / "README.md").read_text()
    walk = readme[readme.index("## Walk-through") : readme.index("## The API")]
    script = "\n".join(re.findall(r"```sh\n(.*?)```", walk, re.DOTALL))
    script = script.replace("http://127.0.0.1:8080", dev_stack.url).replace("/tmp/adx-cookies", str(tmp_path / "jar"))
    command = ["sh", "-eu", "-c", script]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""
    responses = list(json_values(done.stdout))
    logged_in, tenants, switched, listed, logged_out = responses

    assert logged_in["data"]["login"]["operation"]["status"] == "COMPLETED"
    assert logged_in["data"]["login"]["viewer"] == {"user": {"name": "Ada Lovelace"}}
    assert len(tenants["data"]["viewer"]["tenantOverview"]["availableTenants"]) == 2
    switch = switched["data"]["switchTenant"]
    assert switch["operation"]["status"] == "COMPLETED"
    assert [step["name"] for step in switch["operation"]["progress"]["steps"]] == list(
        STEPS[OperationKind.TENANT_SWITCH]
    )
    assert switch["viewer"]["tenantOverview"]["currentTenant"] == {"name": "Globex"}
    kinds = [node["kind"] for node in listed["data"]["viewer"]["operations"]["nodes"]]
    assert "TENANT_SWITCH" in kinds
    assert logged_out["data"] == {"logout": {"ok": True}}

    shown = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", walk, re.DOTALL)]
    assert [without_ids_and_times(each) for each in shown] == [without_ids_and_times(each) for each in responses[:-1]]

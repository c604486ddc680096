"""Metrics: running processes serve every metric that a dashboard, an alert or the autoscaler queries."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

import httpx
import pytest
import yaml

from tests.end_to_end.client import Client
from tests.stack import ROOT, Stack

DOCKER = ROOT / "docker"
_NAME = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b(?=\s*[{\[)]|\s*$|\s*[=><])")


def queries() -> Iterator[str]:
    for dashboard in (DOCKER / "grafana" / "dashboards").glob("*.json"):
        for panel in json.loads(dashboard.read_text())["panels"]:
            yield from (target["expr"] for target in panel["targets"])
    for group in yaml.safe_load((DOCKER / "alerts.yaml").read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    for resource in yaml.safe_load_all((DOCKER / "kubernetes" / "scaling.yaml").read_text()):
        triggers: list[dict[str, Any]] = resource["spec"]["triggers"]
        yield from (trigger["metadata"]["query"] for trigger in triggers if trigger["type"] == "prometheus")


def queried_metrics() -> set[str]:
    return set(chain.from_iterable(_NAME.findall(query) for query in queries()))


def fetch_metrics(url: str) -> str:
    answer = httpx.get(f"{url}/metrics", timeout=10, trust_env=False)
    assert answer.is_success
    return answer.text


def metric_names(text: str) -> set[str]:
    return {re.split(r"[ {]", line.removeprefix("# TYPE "))[0] for line in text.splitlines() if line}


@pytest.fixture
async def used_stack(deployed_stack: Stack) -> Stack:
    """A deployed stack with counted events: a completed operation and a refused request."""
    ada = Client(deployed_stack)
    await ada.log_in("ada@example.com")
    await ada.error_of("mutation { logout { ok } nonsense }")
    _, ada.token = await ada.switch_tenant(await ada.tenant_id("Globex"))
    _, ada.token = await ada.switch_tenant(await ada.tenant_id("Acme"))
    return deployed_stack


def test_serves_the_documented_metrics(used_stack: Stack) -> None:
    everything = "".join(fetch_metrics(url) for url in used_stack.monitoring.values())
    served = metric_names(everything)
    queried = queried_metrics()
    assert "workflow_executions_total" in queried
    missing = {name for name in queried if name not in served and name.removesuffix("_total") not in served}
    assert not missing - {"up"}


def test_operations_are_counted_once_by_kind_and_outcome(used_stack: Stack) -> None:
    text = fetch_metrics(used_stack.monitoring["operations"])
    completed = re.search(r'workflow_executions_total{kind="TENANT_SWITCH",outcome="completed"} (\S+)', text)
    assert completed
    assert float(completed[1]) >= 1
    assert 'workflow_duration_seconds_bucket{kind="LOGIN",le="0.1",outcome="completed"}' in text
    assert "temporal_workflow_completed" in text  # a metric of Temporal's SDK


def test_client_chosen_names_do_not_become_labels(used_stack: Stack) -> None:
    text = "".join(fetch_metrics(url) for name, url in used_stack.monitoring.items() if name.startswith("gateway"))
    assert 'gateway_operations_total{code="OK",operation="login"}' in text
    assert "nonsense" not in text


def test_readiness_lists_each_dependency(deployed_stack: Stack) -> None:
    for name, url in deployed_stack.monitoring.items():
        states = httpx.get(f"{url}/readyz", timeout=10, trust_env=False).json()["dependencies"]
        expected = {"temporal"} | ({"auth", "users"} if name.startswith("gateway") else {"database"})
        expected |= {"redis"} if name not in ("users", "files") else set()  # these two services do not use Redis
        assert expected <= states.keys(), name
        assert set(states.values()) == {"ok"}, (name, states)


def test_metrics_are_not_served_on_the_client_port(deployed_stack: Stack) -> None:
    assert httpx.get(f"{deployed_stack.url}/metrics", trust_env=False).status_code == httpx.codes.NOT_FOUND

"""The manifests of docker/kubernetes: their processes, and the connections that their network policies allow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.docker.processes import Process

FOLDER = Path(__file__).parent.parent.parent / "docker" / "kubernetes"
NAMESPACE = "kubernetes.io/metadata.name"


def resources(kind: str) -> Iterator[dict[str, Any]]:
    for file in sorted(FOLDER.glob("*.yaml")):
        yield from (each for each in yaml.safe_load_all(file.read_text()) if each["kind"] == kind)


def pods() -> dict[str, dict[str, Any]]:
    """Return the pod template of each process by the process's name."""
    return {
        each["metadata"]["name"]: each["spec"]["template"] for kind in ("Deployment", "Job") for each in resources(kind)
    }


def container(name: str) -> dict[str, Any]:
    (only,) = pods()[name]["spec"]["containers"]
    found: dict[str, Any] = only
    return found


def secrets_of(name: str) -> set[tuple[str, str]]:
    """Return the Secrets' names and keys that the process references; it must not reference a whole Secret."""
    assert not any("secretRef" in each for each in container(name).get("envFrom", ())), name
    assert not any("secret" in each or "projected" in each for each in pods()[name]["spec"].get("volumes", ())), name
    given = (each.get("valueFrom", {}).get("secretKeyRef") for each in container(name).get("env", ()))
    return {(each["name"], each["key"]) for each in given if each}


def processes(secrets: Mapping[tuple[str, str], str]) -> dict[str, Process]:
    """Return the processes by name, with the values of their secrets. Raises KeyError if one is missing."""
    return {name: Process(tuple(container(name)["command"]), environment(name, secrets)) for name in pods()}


def environment(name: str, secrets: Mapping[tuple[str, str], str]) -> dict[str, str]:
    maps = {each["metadata"]["name"]: each["data"] for each in resources("ConfigMap")}
    variables: dict[str, str] = {}
    for source in container(name).get("envFrom", ()):
        variables |= maps[source["configMapRef"]["name"]]
    for each in container(name).get("env", ()):
        reference = each.get("valueFrom", {}).get("secretKeyRef")
        variables[each["name"]] = secrets[reference["name"], reference["key"]] if reference else each["value"]
    return variables


def reached_by(name: str) -> set[tuple[str, int]]:
    """Return the peers that the process may connect to: names of our pods or of other namespaces, with the port."""
    return {
        (_peer(peer), port["port"])
        for policy in _policies(name, "Egress")
        for rule in policy.get("egress", ())
        for peer in rule["to"]
        for port in rule["ports"]
    }


def reaching(name: str) -> set[tuple[str, int]]:
    """Return the peers that may connect to the process, with the port."""
    return {
        (_peer(peer), port["port"])
        for policy in _policies(name, "Ingress")
        for rule in policy.get("ingress", ())
        for peer in rule["from"]
        for port in rule["ports"]
    }


def is_closed_by_default(name: str, direction: str) -> bool:
    return any(not policy.get(direction.lower()) for policy in _policies(name, direction))


def _policies(name: str, direction: str) -> Iterator[dict[str, Any]]:
    labels = pods()[name]["metadata"]["labels"]
    for each in resources("NetworkPolicy"):
        policy = each["spec"]
        if direction in policy["policyTypes"] and _selects(policy["podSelector"], labels):
            yield policy


def _selects(selector: dict[str, Any], labels: Mapping[str, str]) -> bool:
    equal = all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())
    rules = selector.get("matchExpressions", ())
    assert all(rule["operator"] == "In" for rule in rules)
    return equal and all(labels.get(rule["key"]) in rule["values"] for rule in rules)


def _peer(peer: dict[str, Any]) -> str:
    namespace = peer.get("namespaceSelector", {}).get("matchLabels", {}).get(NAMESPACE)
    name: str = namespace or peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
    return name

"""The files of a deployment are what the tools that read them expect, and speak of what is there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from contracts.task_queues import TaskQueue
from gateway.settings import Settings
from tests.docker.compose import Service, VariableMissing, services, subnets
from tests.docker.deployed import WORKERS
from tests.docker.kubernetes import container, pods
from worker.migrate import MigrateSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).parent.parent.parent
DOCKER = ROOT / "docker"
DOMAINS = ("AUTH", "USERS", "TENANTS", "FILES", "OPERATIONS")
KEYS = (
    "SECRET_KEY",
    "CODEC_KEYS",
    *(f"{name}_KEY" for name in DOMAINS),
    "POSTGRES_PASSWORD",
    *(f"{name}_DB_PASSWORD" for name in ("MIGRATE", "TEMPORAL", *DOMAINS)),
    *(f"{name}_REDIS_PASSWORD" for name in ("GATEWAY", "AUTH", "TENANTS", "OPERATIONS")),
    *(f"{name}_STORAGE_PASSWORD" for name in ("GATEWAY", "FILES")),
    "STORAGE_ROOT_PASSWORD",
    "GRAFANA_PASSWORD",
)
OF_OTHERS = re.compile(r"(AWS|OTEL|TEMPORAL)_\w+$")
"""Variables that a library reads itself."""


@pytest.fixture(scope="module")
def composed() -> dict[str, Service]:
    return services(dict.fromkeys(KEYS, "x" * 32))


def known(model: type[Settings | WorkerSettings | MigrateSettings]) -> set[str]:
    return {name.upper() for name in model.model_fields}


def test_what_has_to_be_kept_secret_has_to_be_given() -> None:
    for missing in KEYS:
        with pytest.raises(VariableMissing, match=missing):
            services(dict.fromkeys(set(KEYS) - {missing}, "x" * 32))


def test_fresh_keys_are_made_once_and_are_enough(tmp_path: Path) -> None:
    script = tmp_path / "new-env.sh"
    script.write_text((DOCKER / "new-env.sh").read_text())
    assert subprocess.run(["sh", script], capture_output=True).returncode == 0
    made = dict(line.split("=", 1) for line in (tmp_path / ".env").read_text().splitlines())
    assert services(made)["gateway"].environment["SECRET_KEY"] == made["SECRET_KEY"]
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    assert set(made) == set(KEYS)
    assert len(set(made.values())) == len(KEYS)
    again = subprocess.run(["sh", script], capture_output=True, text=True)
    assert (again.returncode, "exists and is kept" in again.stderr) == (1, True)


def test_every_variable_is_one_that_the_process_reads(composed: dict[str, Service]) -> None:
    readers = {"gateway": known(Settings), "migrate": known(MigrateSettings), "demo": known(MigrateSettings)}
    for name, service in composed.items():
        if service.is_ours:
            reads = readers.get(name, known(WorkerSettings))
            unknown = {told for told in service.environment if told not in reads and not OF_OTHERS.match(told)}
            assert not unknown, f"{name} is told {unknown}"


def test_each_domain_is_served_on_its_port_and_the_gateway_looks_there(composed: dict[str, Service]) -> None:
    told = composed["gateway"].environment
    for name, port in WORKERS.items():
        assert composed[name].environment["WORKER_PORT"] == port
        assert composed[name].command == ("python", "-m", "worker", name)
        assert f"http://{name}:{port}" in told.values()


def test_gateways_trust_the_network_that_they_share_with_the_proxy_alone(composed: dict[str, Service]) -> None:
    """The subnet can be changed by EDGE_SUBNET."""
    assert [name for name, service in composed.items() if "edge" in service.networks] == ["proxy", "gateway"]
    for variables in ({}, {"EDGE_SUBNET": "10.77.0.0/24"}):
        values = dict.fromkeys(KEYS, "x" * 32) | variables
        trusted = services(values)["gateway"].environment["TRUSTED_PROXIES"]
        assert trusted == f'["{subnets(values)["edge"]}"]'


def test_all_of_ours_run_read_only_and_every_mounted_file_is_there(composed: dict[str, Service]) -> None:
    for name, service in composed.items():
        assert service.read_only or not service.is_ours, name
        for volume in service.volumes:
            if volume.startswith("."):
                assert (DOCKER / volume.split(":")[0]).exists(), f"{name} mounts {volume}"


def test_the_image_is_made_as_the_linter_wants_and_of_what_is_there() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [linter, "--failure-threshold", "warning", DOCKER / "Dockerfile"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    for path in (path for paths in copied for path in paths.split()):
        assert (ROOT / path).exists(), path
        assert any(path.rstrip("/") == allowed or path.startswith(f"{allowed}/") for allowed in let_in), path


def test_the_image_has_the_packages_of_the_project_at_the_versions_that_are_tested() -> None:
    pins = re.compile(r"^([a-zA-Z0-9_.-]+)==(\S+)", re.MULTILINE)
    image = dict(pins.findall((DOCKER / "requirements.lock").read_text()))
    tested = dict(pins.findall((ROOT / "requirements.lock").read_text()))
    assert image.items() <= tested.items(), "make lock"
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[^\w-]", line)[0].lower() for line in wanted}
    assert names <= image.keys(), "make lock"


def manifests() -> list[tuple[str, dict[str, object]]]:
    files = sorted((DOCKER / "kubernetes").glob("*.yaml"))
    return [
        (f"{file.name}#{number}", resource)
        for file in files
        for number, resource in enumerate(yaml.safe_load_all(file.read_text()))
    ]


def test_kubernetes_would_take_it() -> None:
    """What is not of its own kinds, KEDA's and kustomize's, is looked at below."""
    for name, resource in manifests():
        if resource["kind"] not in {"ScaledObject", "Kustomization"}:
            try:
                kubernetes_validate.validate(resource, "1.32", strict=True)
            except kubernetes_validate.ValidationError as error:
                pytest.fail(f"{name}: {error.message}")


def test_every_file_is_applied_and_every_deployment_may_be_disrupted_by_one() -> None:
    folder = DOCKER / "kubernetes"
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert sorted([*listed, "kustomization.yaml"]) == sorted(file.name for file in folder.glob("*.yaml"))
    names: dict[str, set[str]] = {}
    for _, resource in manifests():
        metadata = resource.get("metadata", {})
        assert isinstance(metadata, dict)
        names.setdefault(str(resource["kind"]), set()).add(str(metadata.get("name")))
    ours = {*WORKERS, "gateway"}
    assert names["Deployment"] == names["PodDisruptionBudget"] == names["Service"] == names["ScaledObject"] == ours


def test_workers_grow_with_what_waits_in_each_task_queue() -> None:
    text = (DOCKER / "kubernetes" / "scaling.yaml").read_text()
    assert sorted(re.findall(r"taskQueue: (\w+)", text)) == sorted(TaskQueue)


def test_traces_go_where_the_collector_listens_in_the_protocol_that_is_spoken(composed: dict[str, Service]) -> None:
    listens = yaml.safe_load((DOCKER / "collector.yaml").read_text())
    (protocol,) = listens["receivers"]["otlp"]["protocols"].items()
    assert listens["service"]["pipelines"]["traces"]["receivers"] == ["otlp"]
    kubernetes = next(each for _, each in manifests() if each["kind"] == "ConfigMap")["data"]
    assert isinstance(kubernetes, dict)
    assert {pod for pod in pods() if "configMapRef" in str(container(pod))} == {*WORKERS, "gateway"}
    for told in (composed["gateway"].environment, composed["auth"].environment, kubernetes):
        url = urlsplit(str(told["OTEL_EXPORTER_OTLP_ENDPOINT"]))
        assert (protocol[0], protocol[1]["endpoint"]) == (url.scheme, f"0.0.0.0:{url.port}")
        assert "OTEL_EXPORTER_OTLP_PROTOCOL" not in told

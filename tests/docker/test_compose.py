"""The files of docker/ are valid for the tools that read them, and refer to settings and files that exist."""

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


def test_every_secret_is_required() -> None:
    for missing in KEYS:
        with pytest.raises(VariableMissing, match=missing):
            services(dict.fromkeys(set(KEYS) - {missing}, "x" * 32))


def test_new_env_generates_every_secret_once(tmp_path: Path) -> None:
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


def test_each_process_reads_all_of_its_variables(composed: dict[str, Service]) -> None:
    readers = {"gateway": known(Settings), "migrate": known(MigrateSettings), "demo": known(MigrateSettings)}
    for name, service in composed.items():
        if service.is_ours:
            reads = readers.get(name, known(WorkerSettings))
            unknown = {told for told in service.environment if told not in reads and not OF_OTHERS.match(told)}
            assert not unknown, f"{name} does not read {unknown}"


def test_the_gateway_has_the_address_of_each_worker(composed: dict[str, Service]) -> None:
    told = composed["gateway"].environment
    for name, port in WORKERS.items():
        assert composed[name].environment["WORKER_PORT"] == port
        assert composed[name].command == ("python", "-m", "worker", name)
        assert f"http://{name}:{port}" in told.values()


def test_gateways_trust_only_the_network_of_the_proxy(composed: dict[str, Service]) -> None:
    """The subnet can be changed by EDGE_SUBNET."""
    assert [name for name, service in composed.items() if "edge" in service.networks] == ["proxy", "gateway"]
    for variables in ({}, {"EDGE_SUBNET": "10.77.0.0/24"}):
        values = dict.fromkeys(KEYS, "x" * 32) | variables
        trusted = services(values)["gateway"].environment["TRUSTED_PROXIES"]
        assert trusted == f'["{subnets(values)["edge"]}"]'


def test_containers_are_read_only_and_mounted_files_exist(composed: dict[str, Service]) -> None:
    for name, service in composed.items():
        assert service.read_only or not service.is_ours, name
        for volume in service.volumes:
            if volume.startswith("."):
                assert (DOCKER / volume.split(":")[0]).exists(), f"{name} mounts {volume}"


def test_the_dockerfile_passes_the_linter_and_copies_existing_files() -> None:
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


def test_the_image_has_the_tested_versions_of_the_packages() -> None:
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


def test_manifests_are_valid_for_kubernetes() -> None:
    """Other tests check the kinds of KEDA and kustomize."""
    for name, resource in manifests():
        if resource["kind"] not in {"ScaledObject", "Kustomization"}:
            try:
                kubernetes_validate.validate(resource, "1.32", strict=True)
            except kubernetes_validate.ValidationError as error:
                pytest.fail(f"{name}: {error.message}")


def test_every_manifest_is_applied_and_has_a_disruption_budget() -> None:
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


def test_workers_scale_with_the_backlog_of_each_task_queue() -> None:
    text = (DOCKER / "kubernetes" / "scaling.yaml").read_text()
    assert sorted(re.findall(r"taskQueue: (\w+)", text)) == sorted(TaskQueue)


def test_traces_are_sent_to_the_address_of_the_collector(composed: dict[str, Service]) -> None:
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

"""The files that a new domain adds or changes."""

from __future__ import annotations

from pathlib import Path

from tools.scaffold.domain_names import DomainNames
from tools.scaffold.edits import PythonFile, TextFile, format_source, render

TEMPLATES = Path(__file__).parent / "templates" / "domain"
NEW_FILES = {
    "activities/{name}/__init__.py": "package.py",
    "activities/{name}/activities.py": "activities.py",
    "activities/{name}/endpoints.py": "endpoints.py",
    "activities/{name}/service.py": "service.py",
    "activities/{name}/models.py": "models.py",
    "activities/{name}/migrations/__init__.py": "migrations.py",
    "activities/{name}/migrations/0001_initial.py": "initial_migration.py",
    "contracts/{name}.py": "contracts.py",
    "resolvers/clients/{name}.py": "client.py",
    "tests/activities/test_{name}.py": "service_test.py",
    "tests/resolvers/clients/test_{name}.py": "client_test.py",
}
"""The template of each new file."""


def domain_files(root: Path, names: DomainNames) -> dict[str, str]:
    """Return the content of every new or changed file by its path.

    Raises:
        ScaffoldError: a file or definition that the domain extends does not exist.
    """
    values = names.values()
    files = {path.format(name=names.name): _render(template, values) for path, template in NEW_FILES.items()}
    for source in (
        _add_task_queue(root, values),
        _register_domain(root, values),
        _add_tables(root, values),
        _add_database_role(root, values),
        _add_settings(root, values),
        _add_to_backend(root, values),
        _create_client(root, values),
        _add_import_rule(root, values),
        *_add_to_deployment(root, values),
        _add_table_owner(root, values),
    ):
        files[source.path] = source.text
    return {path: format_source(path, text) for path, text in files.items()}


def _render(template: str, values: dict[str, str]) -> str:
    return render((TEMPLATES / f"{template}.template").read_text(), values)


def _add_task_queue(root: Path, values: dict[str, str]) -> PythonFile:
    source = PythonFile(root, "contracts/task_queues.py")
    source.append_to_class("TaskQueue", render('    $NAME = "$name"', values))
    return source


def _register_domain(root: Path, values: dict[str, str]) -> PythonFile:
    source = PythonFile(root, "worker/registry.py")
    for line in (
        "from activities.$name import endpoints as ${name}_endpoints",
        "from activities.$name.activities import $Name",
        "from activities.$name.service import ${Name}Service",
    ):
        source.add_import(render(line, values))
    source.insert_before_assignment("PROCESSES", _render("registration", values))
    for process in (values["process"], "all"):
        source.append_element("PROCESSES", values["name"], key=process)
    return source


def _add_tables(root: Path, values: dict[str, str]) -> PythonFile:
    source = PythonFile(root, "worker/database.py")
    source.append_element("DOMAINS", render('"$name"', values))
    return source


def _add_database_role(root: Path, values: dict[str, str]) -> PythonFile:
    source = PythonFile(root, "worker/roles.py")
    source.append_element("_HOST_PROCESSES", render('"$name": "$process"', values))
    return source


def _add_settings(root: Path, values: dict[str, str]) -> PythonFile:
    source = PythonFile(root, "gateway/settings.py")
    source.append_element("SERVICES", render('"$name"', values))
    source.insert_before_field("Settings", "operations_key", _render("key_setting", values))
    source.insert_before_field("Settings", "operations_url", _render("url_setting", values))
    return source


def _add_to_backend(root: Path, values: dict[str, str]) -> PythonFile:
    source = PythonFile(root, "resolvers/context.py")
    source.add_import(render("from resolvers.clients.$name import ${Name}Client", values))
    source.insert_before_field("Backend", "dashboards", render("    $name: ${Name}Client", values))
    return source


def _create_client(root: Path, values: dict[str, str]) -> PythonFile:
    source = PythonFile(root, "gateway/resolver_backend.py")
    source.add_import(render("from resolvers.clients.$name import ${Name}Client", values))
    source.append_argument("Backend", render('$name=${Name}Client(service_client("$name"))', values))
    return source


def _add_import_rule(root: Path, values: dict[str, str]) -> TextFile:
    source = TextFile(root, "pyproject.toml")
    source.insert_before_line('"activities.notifications",', render('    "activities.$name",', values))
    return source


def _add_to_deployment(root: Path, values: dict[str, str]) -> list[TextFile]:
    """Return the files of docker/: the host process serves the domain, with its own key and at its own address."""
    compose = TextFile(root, "docker/compose.yaml")
    gateway = TextFile(root, "docker/kubernetes/gateway.yaml")
    scaling = TextFile(root, "docker/kubernetes/scaling.yaml")
    port = _port(compose.text, values["process"])
    compose.insert_before_line(
        "OPERATIONS_KEY: ${", render("      ${NAME}_KEY: $${${PROCESS}_KEY:?run docker/new-env.sh}", values)
    )
    compose.insert_before_line("OPERATIONS_URL: ", render(f"      ${{NAME}}_URL: http://$process:{port}", values))
    reference = "{ secretKeyRef: { name: adx-gateway, key: ${PROCESS}_KEY } }"
    gateway.insert_before_line(
        "name: OPERATIONS_KEY", render(f"            - {{ name: ${{NAME}}_KEY, valueFrom: {reference} }}", values)
    )
    gateway.insert_before_line(
        "name: OPERATIONS_URL",
        render(f"            - {{ name: ${{NAME}}_URL, value: http://$process:{port} }}", values),
    )
    scaling.insert_before_line(render("taskQueue: $process", values), _render("scaling", values))
    return [compose, gateway, scaling]


def _add_table_owner(root: Path, values: dict[str, str]) -> TextFile:
    source = TextFile(root, "docs/architecture.md")
    source.insert_before_line(
        "| `DOMAIN_idempotency_record` |", render("| `${name}_item` | $name | an item of a tenant |", values)
    )
    source.replace_in_line("| `DOMAIN_idempotency_record` |", " | a step", render(", $name | a step", values))
    return source


def _port(compose: str, process: str) -> str:
    """Return the port of the process's endpoints."""
    return compose.partition(f"http://{process}:")[2].partition("\n")[0].strip()

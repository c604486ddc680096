"""The files that a new operation adds or changes. ``docs/tutorial.md`` describes the same changes made by hand."""

from __future__ import annotations

from pathlib import Path

from tools.scaffold.edits import PythonFile, format_source, render
from tools.scaffold.operation_names import OperationNames

TEMPLATES = Path(__file__).parent / "templates" / "operation"
NEW_FILES = {
    "workflows/{name}.py": "workflow.py",
    "resolvers/operations/{name}.py": "resolver.py",
    "schema/types/{name}.py": "schema.py",
    "tests/workflows/test_{name}.py": "workflow_test.py",
    "tests/end_to_end/test_{name}.py": "end_to_end_test.py",
}
"""The template of each new file."""


def operation_files(root: Path, names: OperationNames) -> dict[str, str]:
    """Return the content of every new or changed file by its path.

    Raises:
        ScaffoldError: a file or definition that the operation extends does not exist.
    """
    values = names.values()
    files = {path.format(name=names.name): _render(template, values) for path, template in NEW_FILES.items()}
    for source in (
        _add_kind(root, values),
        _add_commands(root, values),
        *_add_activities(root, names, values),
        _add_compensation(root, values),
        _register_workflow(root, values),
        _add_retry(root, values),
        _add_mutation(root, values),
        _record_history(root, values),
    ):
        files[source.path] = source.text
    return {path: format_source(path, text) for path, text in files.items()}


def _render(template: str, values: dict[str, str]) -> str:
    return render((TEMPLATES / f"{template}.template").read_text(), values)


def _add_kind(root: Path, values: dict[str, str]) -> PythonFile:
    source = PythonFile(root, "contracts/operations.py")
    source.append_to_class("OperationKind", render('    $KIND = "$KIND"', values))
    source.append_element("STEPS", render('OperationKind.$KIND: ("check_permissions", "$name")', values))
    source.insert_before_assignment("OperationResult", _render("result", values))
    source.append_union_member("OperationResult", render("${Type}Result", values))
    return source


def _add_commands(root: Path, values: dict[str, str]) -> PythonFile:
    source = PythonFile(root, render("contracts/$domain.py", values))
    source.append(_render("commands", values))
    return source


def _add_activities(root: Path, names: OperationNames, values: dict[str, str]) -> list[PythonFile]:
    service = PythonFile(root, f"{names.service_module.replace('.', '/')}.py")
    service.append_to_class(names.service, _render("service", values))
    activities = PythonFile(root, render("activities/$domain/activities.py", values))
    activities.append_to_class(values["Domain"], _render("activities", values))
    for source in (service, activities):
        source.add_import(render("from contracts.$domain import ${Name}Step", values))
        source.add_import(render("from contracts.operations import ${Type}Result", values))
    activities.add_import("from temporalio import activity")
    for line in (
        "from pydantic import JsonValue",
        "from activities.idempotency import run_once, undo_once",
        "from activities.$domain import models",
        "from contracts.base import utc_now",
    ):
        service.add_import(render(line, values))
    return [service, activities]


def _add_compensation(root: Path, values: dict[str, str]) -> PythonFile:
    source = PythonFile(root, "workflows/compensations.py")
    source.add_import(render("from activities.$domain.activities import $Domain", values))
    source.append_element("COMPENSATIONS", render("$Domain.$name.__name__: $Domain.undo_$name", values))
    return source


def _register_workflow(root: Path, values: dict[str, str]) -> PythonFile:
    source = PythonFile(root, "worker/registry.py")
    source.add_import(render("from workflows.$name import $Name", values))
    source.append_element("WORKFLOWS", values["Name"])
    return source


def _add_retry(root: Path, values: dict[str, str]) -> PythonFile:
    source = PythonFile(root, "resolvers/operations/retry.py")
    source.add_import(render("from resolvers.operations import $name", values))
    case = """
        case OperationKind.$KIND:
            return await _start(context, failed, $name.start_request(context, viewer, options), seconds)"""
    source.append_case("retry", render(case.lstrip("\n"), values))
    return source


def _add_mutation(root: Path, values: dict[str, str]) -> PythonFile:
    source = PythonFile(root, "schema/mutation.py")
    source.add_import(render("from resolvers.operations import $name", values))
    source.add_import(render("from schema.types.$name import ${Name}Input, ${Name}Payload", values))
    source.append_to_class("Mutation", _render("mutation", values))
    return source


def _record_history(root: Path, values: dict[str, str]) -> PythonFile:
    source = PythonFile(root, "tests/histories/record.py")
    source.add_import(render("from tests.workflows import test_$name", values))
    source.append_element("RECORDING_PLANS", render('"$name": RecordingPlan(test_$name, "$name")', values))
    return source

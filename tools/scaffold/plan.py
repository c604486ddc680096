"""What a new operation adds, file by file. ``docs/tutorial.md`` goes the same way by hand."""

from __future__ import annotations

from pathlib import Path

from tools.scaffold.edits import Source, filled, formatted
from tools.scaffold.names import Names

TEMPLATES = Path(__file__).parent / "templates"
NEW = {
    "workflows/{name}.py": "workflow.py",
    "resolvers/operations/{name}.py": "resolver.py",
    "schema/types/{name}.py": "schema.py",
    "tests/workflows/test_{name}.py": "workflow_test.py",
    "tests/end_to_end/test_{name}.py": "end_to_end_test.py",
}


def files(root: Path, names: Names) -> dict[str, str]:
    """Every file that is new or changes, as it will be. Raises Refused where a place is gone."""
    words = names.words()
    made = {path.format(name=names.name): _filled(template, words) for path, template in NEW.items()}
    for source in (
        _kind(root, words),
        _commands(root, words),
        *_activities(root, names, words),
        _undo(root, words),
        _registered(root, words),
        _retried(root, words),
        _mutation(root, words),
        _recorded(root, words),
    ):
        made[source.path] = source.text
    return {path: formatted(path, text) for path, text in made.items()}


def _filled(template: str, words: dict[str, str]) -> str:
    return filled((TEMPLATES / f"{template}.template").read_text(), words)


def _kind(root: Path, words: dict[str, str]) -> Source:
    source = Source(root, "contracts/operations.py")
    source.has_in_class("OperationKind", filled('    $KIND = "$KIND"', words))
    source.has_element("STEPS", filled('OperationKind.$KIND: ("check_permissions", "$name")', words))
    source.has_before("OperationResult", _filled("result", words))
    source.has_alternative("OperationResult", filled("${Type}Result", words))
    return source


def _commands(root: Path, words: dict[str, str]) -> Source:
    source = Source(root, filled("contracts/$domain.py", words))
    source.ends_with(_filled("commands", words))
    return source


def _activities(root: Path, names: Names, words: dict[str, str]) -> list[Source]:
    service = Source(root, f"{names.service_module.replace('.', '/')}.py")
    service.has_in_class(names.service, _filled("service", words))
    activities = Source(root, filled("activities/$domain/activities.py", words))
    activities.has_in_class(words["Domain"], _filled("activities", words))
    for source in (service, activities):
        source.has_import(filled("from contracts.$domain import ${Name}Step", words))
        source.has_import(filled("from contracts.operations import ${Type}Result", words))
    for line in (
        "from pydantic import JsonValue",
        "from activities.idempotency import run_once, undo_once",
        "from activities.$domain import models",
        "from contracts.base import utc_now",
    ):
        service.has_import(filled(line, words))
    return [service, activities]


def _undo(root: Path, words: dict[str, str]) -> Source:
    source = Source(root, "workflows/compensations.py")
    source.has_element("COMPENSATIONS", filled("$Domain.$name.__name__: $Domain.undo_$name", words))
    return source


def _registered(root: Path, words: dict[str, str]) -> Source:
    source = Source(root, "worker/registry.py")
    source.has_import(filled("from workflows.$name import $Name", words))
    source.has_element("WORKFLOWS", words["Name"])
    return source


def _retried(root: Path, words: dict[str, str]) -> Source:
    source = Source(root, "resolvers/operations/retry.py")
    source.has_import(filled("from resolvers.operations import $name", words))
    case = """
        case OperationKind.$KIND:
            return await _start(context, failed, $name.order(context, viewer, wish), seconds)"""
    source.has_case("retry", filled(case.lstrip("\n"), words))
    return source


def _mutation(root: Path, words: dict[str, str]) -> Source:
    source = Source(root, "schema/mutation.py")
    source.has_import(filled("from resolvers.operations import $name", words))
    source.has_import(filled("from schema.types.$name import ${Name}Input, ${Name}Payload", words))
    source.has_in_class("Mutation", _filled("mutation", words))
    return source


def _recorded(root: Path, words: dict[str, str]) -> Source:
    source = Source(root, "tests/histories/record.py")
    source.has_import(filled("from tests.workflows import test_$name", words))
    source.has_element("RECORDING_PLANS", filled('"$name": RecordingPlan(test_$name, "$name")', words))
    return source

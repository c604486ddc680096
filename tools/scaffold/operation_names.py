"""The names of a new operation's parts, derived from its name, and the checks that the name is valid and unused."""

from __future__ import annotations

import ast
import keyword
import re
from dataclasses import dataclass
from pathlib import Path

from tools.scaffold.errors import ScaffoldError

MAX_NAME_LENGTH = 40
"""In characters."""
RESERVED_VERBS = frozenset(("undo", "test"))
"""Verbs that have a meaning of their own: names with them would look like an undo or a test."""
_FOLDERS = ("workflows", "resolvers/operations", "schema/types")


@dataclass(frozen=True)
class OperationNames:
    """The name of an operation (``archive_tenant``) in all spellings, and the parts of its domain that it extends."""

    name: str
    domain: str
    record: str
    """The domain's table of idempotency records, a model class."""
    service: str
    """The class with the domain's rules."""
    attribute: str
    """The attribute of the activities class that holds the service."""
    service_module: str

    def values(self) -> dict[str, str]:
        """Return the values for ``render``."""
        verb, _, noun = self.name.partition("_")
        kind = f"{noun}_{verb}"
        return {
            "name": self.name,
            "words": self.name.replace("_", " ").capitalize(),
            "Name": pascal_case(self.name),
            "mutation": pascal_case(self.name)[0].lower() + pascal_case(self.name)[1:],
            "KIND": kind.upper(),
            "Type": pascal_case(kind),
            "domain": self.domain,
            "Domain": pascal_case(self.domain),
            "record": self.record,
            "service": self.service,
            "attribute": self.attribute,
        }


def operation_names(root: Path, name: str, domain: str) -> OperationNames:
    """Derive the names.

    Raises:
        ScaffoldError: the name is invalid or in use, or the domain has no table of idempotency records.
    """
    _check_form(name)
    available = domains(root)
    if domain not in available:
        raise ScaffoldError(
            f"{domain or 'An empty text'} is not a domain with idempotency records: choose {', '.join(available)}."
        )
    record = _idempotency_record(root / "activities" / domain / "models.py")
    assert record is not None
    service = _service(root / "activities" / domain / "activities.py", pascal_case(domain))
    names = OperationNames(name, domain, record, *service)
    _check_unused(root, names)
    return names


def domains(root: Path) -> list[str]:
    """Return the domains whose services keep idempotency records."""
    models = (root / "activities").glob("*/models.py")
    return sorted(path.parent.name for path in models if _idempotency_record(path))


def defined_names(root: Path) -> set[str]:
    """Return every name that the GraphQL schema, a contract or an activities class defines."""
    names = set(re.findall(r"\w+", (root / "schema.graphql").read_text()))
    for path in (*(root / "contracts").glob("*.py"), *(root / "activities").glob("*/activities.py")):
        nodes = ast.walk(ast.parse(path.read_text()))
        names |= {node.name for node in nodes if isinstance(node, ast.ClassDef | ast.AsyncFunctionDef)}
    return names


def pascal_case(name: str) -> str:
    return name.title().replace("_", "")


def _check_form(name: str) -> None:
    if not re.fullmatch(r"[a-z]+(_[a-z]+)+", name):
        raise ScaffoldError(
            f"{name or 'An empty text'} is not a valid name: use verb, underscore and noun, as in archive_tenant."
        )
    if len(name) > MAX_NAME_LENGTH:
        raise ScaffoldError(f"{name} is too long: a name has at most {MAX_NAME_LENGTH} characters.")
    verb = name.partition("_")[0]
    if verb in RESERVED_VERBS or keyword.iskeyword(verb):
        raise ScaffoldError(f"{name} is not a valid name: it must not begin with {verb}.")


def _check_unused(root: Path, names: OperationNames) -> None:
    name, values = names.name, names.values()
    for folder in _FOLDERS:
        if (root / folder / f"{name}.py").exists():
            raise ScaffoldError(f"{name} is in use: {folder}/{name}.py exists.")
    new = {
        values["Name"],
        values["Type"],
        values["KIND"],
        values["mutation"],
        f"{values['Type']}Result",
        name,
        f"undo_{name}",
    }
    new |= {f"{values['Name']}{end}" for end in ("Command", "Step", "Input", "Payload")}
    if clash := sorted(new & defined_names(root)):
        raise ScaffoldError(f"{name} is in use: {clash[0]} is defined with another meaning.")


def _idempotency_record(models: Path) -> str | None:
    """Return the model class of the domain's idempotency records."""
    classes = [node for node in ast.parse(models.read_text()).body if isinstance(node, ast.ClassDef)]
    bases = {node.name: [ast.unparse(base) for base in node.bases] for node in classes}
    return next((name for name, each in bases.items() if "IdempotencyRecord" in each), None)


def _service(activities: Path, owner: str) -> tuple[str, str, str]:
    """Return the first argument of the activities class: the service's class, the attribute for it, and its module."""
    tree = ast.parse(activities.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == owner:
            constructor = next(
                part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"
            )
            argument, assignment = constructor.args.args[1], constructor.body[0]
            if (
                argument.annotation
                and isinstance(assignment, ast.Assign)
                and isinstance(assignment.targets[0], ast.Attribute)
            ):
                service = ast.unparse(argument.annotation)
                module = next(
                    each.module
                    for each in ast.walk(tree)
                    if isinstance(each, ast.ImportFrom)
                    and each.module
                    and service in [part.name for part in each.names]
                )
                return service, assignment.targets[0].attr, module
    raise ScaffoldError(f"{activities} has no class {owner} whose first argument is a service.")

"""The names of a new domain's parts, derived from its name, and the checks that the name is valid and unused."""

from __future__ import annotations

import ast
import itertools
import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.scaffold.errors import ScaffoldError
from tools.scaffold.operation_names import defined_names

MAX_DOMAIN_LENGTH = 20
"""In characters."""
HOST_PROCESS = "tenants"
"""The worker process that serves a new domain, until the domain gets a process of its own."""
_RESERVED = frozenset(("all", "test", "tests"))


@dataclass(frozen=True)
class DomainNames:
    """The name of a domain (``billing``) in all its spellings."""

    name: str
    id_prefix: str
    """Three letters that begin the ids of the domain's items."""

    def values(self) -> dict[str, str]:
        """Return the values for ``render``."""
        return {
            "name": self.name,
            "Name": self.name.capitalize(),
            "NAME": self.name.upper(),
            "id_prefix": self.id_prefix,
            "process": HOST_PROCESS,
            "PROCESS": HOST_PROCESS.upper(),
        }


def domain_names(root: Path, name: str) -> DomainNames:
    """Derive the names.

    Raises:
        ScaffoldError: the name is invalid or in use.
    """
    _check_form(name)
    _check_unused(root, name)
    used = _id_prefixes(root)
    prefixes = ("".join(letters) for letters in itertools.combinations(name, 3))
    prefix = next((each for each in prefixes if each not in used), None)
    if prefix is None:
        raise ScaffoldError(f"{name} is not a valid name: every prefix for its ids is in use.")
    return DomainNames(name, prefix)


def _check_form(name: str) -> None:
    if not re.fullmatch(r"[a-z]{3,}", name):
        raise ScaffoldError(
            f"{name or 'An empty text'} is not a valid name: use one word of small letters, as in billing."
        )
    if len(name) > MAX_DOMAIN_LENGTH:
        raise ScaffoldError(f"{name} is too long: a name has at most {MAX_DOMAIN_LENGTH} characters.")
    if name in _RESERVED or keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise ScaffoldError(f"{name} is not a valid name: it has another meaning.")


def _check_unused(root: Path, name: str) -> None:
    for path in (f"activities/{name}", f"activities/{name}.py", f"contracts/{name}.py", f"resolvers/clients/{name}.py"):
        if (root / path).exists():
            raise ScaffoldError(f"{name} is in use: {path} exists.")
    pascal = name.capitalize()
    new = {name, pascal, f"{pascal}Item", f"{pascal}Client", f"{pascal}Service", f"{name}_endpoints"}
    used = defined_names(root) - {name}  # a field of the schema may have the same name
    for module in ("worker/registry.py", "gateway/resolver_backend.py", "workflows/compensations.py"):
        used |= set(_module_names(root / module))
    used |= set(_fields(root / "resolvers" / "context.py", "Backend"))
    settings = set(_fields(root / "gateway" / "settings.py", "Settings"))
    if clash := sorted(new & used) or sorted({f"{name}_url", f"{name}_key"} & settings):
        raise ScaffoldError(f"{name} is in use: {clash[0]} is defined with another meaning.")


def _module_names(module: Path) -> Iterator[str]:
    """Yield every name that the module imports or defines at its top level."""
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (each.asname or each.name for each in node.names)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name


def _fields(module: Path, class_name: str) -> Iterator[str]:
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            fields = (each.target for each in node.body if isinstance(each, ast.AnnAssign))
            yield from (field.id for field in fields if isinstance(field, ast.Name))


def _id_prefixes(root: Path) -> set[str]:
    """Return the prefixes of all ids that the product makes."""
    files = (path for folder in ("contracts", "activities", "resolvers") for path in (root / folder).rglob("*.py"))
    return {prefix for path in files for prefix in re.findall(r"_id\((?:[\w.]+, )?\"([a-z]{3})\"", path.read_text())}

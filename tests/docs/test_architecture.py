"""The folders, files and functions that docs/architecture.md and docs/glossary.md name exist."""

from __future__ import annotations

import ast
import re

import pytest

from tests.stack import ROOT

ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()
LAYERS = ("contracts", "infrastructure", "gateway", "schema", "resolvers", "workflows", "activities", "worker", "tools")
PATHS = ("The path of a mutation", "The path of a progress state")


def section(heading: str) -> str:
    return ARCHITECTURE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def path_steps() -> list[tuple[str, str]]:
    """Return the file and the function of each row of the two tables of paths."""
    tables = "".join(section(heading) for heading in PATHS)
    return re.findall(r"^\| \d+ \| `([^`]+)` \| `([^`]+)` \|", tables, re.MULTILINE)


def glossary_definitions() -> list[tuple[str, str]]:
    """Return the module and the name of each row of the glossary that names both."""
    return re.findall(r"`(\w[\w/]*\.py)`: `([\w.]+)`", GLOSSARY)


def defined_names(file: str) -> set[str]:
    """Return the classes, functions, constants and methods (as ``Class.method``) that the file defines."""
    names = set[str]()
    for node in ast.parse((ROOT / file).read_text()).body:
        names |= _names_of(node)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{name}" for member in node.body for name in _names_of(member)}
    return names


def _names_of(node: ast.stmt) -> set[str]:
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return {name}
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
        case _:
            return set()


@pytest.mark.parametrize(("file", "name"), sorted({*path_steps(), *glossary_definitions()}))
def test_each_named_file_defines_the_named_function(file: str, name: str) -> None:
    assert name in defined_names(file)


@pytest.mark.parametrize("heading", PATHS)
def test_the_steps_of_a_path_are_numbered(heading: str) -> None:
    numbers = [int(number) for number in re.findall(r"^\| (\d+) \|", section(heading), re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 10


def test_the_page_names_the_owner_of_every_table() -> None:
    documented = set[tuple[str, str]]()
    for tables, owners in re.findall(r"^\| (`[^|]+`) \| ([^|]+) \|", section("Tables"), re.MULTILINE):
        for owner in owners.split(", "):
            names = (name.replace("DOMAIN", owner) for name in re.findall(r"`(\w+)`", tables))
            documented |= {(name, owner) for name in names}
    models = (ROOT / "activities").glob("*/models.py")
    owned = {
        (table, file.parent.name)
        for file in models
        for table in re.findall(r'^ +table = "(\w+)"', file.read_text(), re.MULTILINE)
    }
    assert documented == owned


def test_every_folder_of_the_table_exists() -> None:
    folders = re.findall(r"`([\w/]+/)`", section("Folders"))
    assert [
        folder for folder in folders if not any((ROOT / parent / folder).is_dir() for parent in FOLDER_PARENTS)
    ] == []


FOLDER_PARENTS = ("", "tests", "examples")
"""The table names some folders relative to one of these."""


def test_every_folder_of_code_is_in_the_table() -> None:
    """A folder of a layer is in the table if it holds modules; migrations belong to the domain above them."""
    packages = {file.parent.relative_to(ROOT) for layer in LAYERS for file in (ROOT / layer).rglob("*.py")}
    named = set(re.findall(r"`([\w/]+)/`", section("Folders")))
    missing = [
        str(package)
        for package in sorted(packages)
        if str(package) not in named
        and not {"migrations", "node_modules", "templates", "measures"} & set(package.parts)
        and package.parent.name != "activities"
    ]
    assert missing == []

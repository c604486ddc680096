"""Find private names of libraries that product code imports, reads, writes, passes as arguments or overrides."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from functools import cache

from tests.stack import ROOT

PACKAGES = (
    "contracts",
    "infrastructure",
    "gateway",
    "schema",
    "resolvers",
    "workflows",
    "activities",
    "worker",
)
_DOCUMENTED = frozenset(
    ("_asdict", "_fields", "_field_defaults", "_make", "_replace", "_value_", "_name_", "_missing_")
)
"""Names with a leading underscore that the standard library documents, of named tuples and enumerations."""
_BY_TEXT = frozenset(("getattr", "setattr", "hasattr", "delattr", "attrgetter"))


def used_names() -> dict[str, set[str]]:
    """Return all used private names of libraries, with the modules that use them."""
    found: dict[str, set[str]] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for name in names_in(ast.parse(path.read_text()), module):
                found.setdefault(name, set()).add(module)
    return found


def names_in(tree: ast.Module, module: str) -> set[str]:
    """Return the private names in one module that belong to a library: its imports, accesses and overrides."""
    own = _own_names(tree)
    return {
        *_imported(tree),
        *(name for name in _accessed(tree) if name not in own),
        *_inherited(tree, module),
    }


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_" and name not in _DOCUMENTED


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if _is_library(name) and any(map(is_private, name.split("."))))


def _accessed(tree: ast.Module) -> Iterator[str]:
    """Yield private names that are accessed on other objects than ``self``, by text, or as keyword arguments."""
    standard = {alias.asname or alias.name for alias in _imports(tree) if alias.name in sys.stdlib_module_names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            is_standard = isinstance(node.value, ast.Name) and node.value.id in standard
            if not is_standard and not _is_own_object(node.value):
                yield node.attr
        elif isinstance(node, ast.Call):
            yield from (keyword.arg for keyword in node.keywords if keyword.arg and is_private(keyword.arg))
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            for each in node.args if called in _BY_TEXT else ():
                if isinstance(each, ast.Constant) and isinstance(each.value, str) and is_private(each.value):
                    yield each.value


def _imports(tree: ast.Module) -> Iterator[ast.alias]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from node.names


def _inherited(tree: ast.Module, module: str) -> Iterator[str]:
    """Yield private names that a class uses or overrides and that a base class from a library defines."""
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        bases = library_bases(getattr(importlib.import_module(module), node.name)) if node.bases else ()
        if bases:
            yield from (name for name in _names_of_class(node) if any(defines(base, name) for base in bases))


def _names_of_class(node: ast.ClassDef) -> set[str]:
    """Return the private names that a class defines or accesses on ``self``."""
    names = {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute) and _is_own_object(each.value)}
    for each in node.body:
        match each:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                names.add(each.name)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return {name for name in names if is_private(name)}


def _own_names(tree: ast.Module) -> set[str]:
    """Return the names that the module itself defines in any scope."""
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()):
                names.add(name)
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                names.add(name)
    return names


def _is_own_object(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "super"
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _is_library(name: str) -> bool:
    """Return whether a module belongs neither to the project nor to the standard library nor to the type checker."""
    top = name.partition(".")[0]
    return top not in (*PACKAGES, "tools", "tests", "_typeshed") and top not in sys.stdlib_module_names


def library_bases(kind: object) -> tuple[type, ...]:
    bases = kind.__mro__[1:] if isinstance(kind, type) else ()
    return tuple(base for base in bases if _is_library(base.__module__) and not hasattr(builtins, base.__name__))


@cache
def defines(owner: object, name: str) -> bool:
    """Return whether a class, function or module has the attribute or parameter, or sets it on ``self``."""
    if hasattr(owner, name):
        return True
    if callable(owner) and name in inspect.signature(owner).parameters:
        return True
    kinds = [kind for kind in owner.__mro__ if kind is not object] if isinstance(owner, type) else []
    return any(_sets(kind, name) for kind in kinds if _is_library(kind.__module__))


def _sets(kind: type, name: str) -> bool:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError):  # a class without Python source
        return False
    return any(
        isinstance(node, ast.Attribute) and node.attr == name and _is_own_object(node.value) for node in ast.walk(tree)
    )

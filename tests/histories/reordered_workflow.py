"""A workflow's source with two of its steps changed round, as a module of its own: what a careless change would do."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from pathlib import Path


def altered(workflow: type, folder: Path, first: str, second: str) -> type:
    """The same class with the step ``second`` before ``first``; ``folder`` must be on the path that imports search.

    A step alone does not make a block: what stands between two steps stays where it is.
    """
    tree = ast.parse(inspect.getsource(sys.modules[workflow.__module__]))
    [blocks] = [node.body for node in ast.walk(tree) if isinstance(node, ast.AsyncWith) and _is_run(node)]
    places = {name: place for place, block in enumerate(blocks) if (name := _step_of(block))}
    one, other = places[first], places[second]
    blocks[one], blocks[other] = blocks[other], blocks[one]
    name = f"altered_{workflow.__module__.rpartition('.')[2]}_{first}"
    (folder / f"{name}.py").write_text(ast.unparse(tree))
    importlib.invalidate_caches()
    found = getattr(importlib.import_module(name), workflow.__name__)
    assert isinstance(found, type)
    return found


def _is_run(node: ast.AsyncWith) -> bool:
    return ast.unparse(node.items[0].context_expr).startswith("OperationRun(")


def _step_of(block: ast.stmt) -> str | None:
    """The name in ``async with operation.step(name)``."""
    if not isinstance(block, ast.AsyncWith):
        return None
    call = block.items[0].context_expr
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr.endswith("step"):
        return str(ast.literal_eval(call.args[0]))
    return None

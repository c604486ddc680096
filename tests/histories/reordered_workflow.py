"""Create a variant of a workflow in which two steps are exchanged, for tests of the detection of such changes."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from pathlib import Path


def reordered(workflow: type, folder: Path, first: str, second: str) -> type:
    """Return the workflow class with the steps ``first`` and ``second`` exchanged.

    The module is written to ``folder``, which must be on the import path. Code between the steps keeps its position.
    """
    tree = ast.parse(inspect.getsource(sys.modules[workflow.__module__]))
    [blocks] = [node.body for node in ast.walk(tree) if isinstance(node, ast.AsyncWith) and _is_run(node)]
    positions = {name: position for position, block in enumerate(blocks) if (name := _step_of(block))}
    one, other = positions[first], positions[second]
    blocks[one], blocks[other] = blocks[other], blocks[one]
    name = f"reordered_{workflow.__module__.rpartition('.')[2]}_{first}"
    (folder / f"{name}.py").write_text(ast.unparse(tree))
    importlib.invalidate_caches()
    variant = getattr(importlib.import_module(name), workflow.__name__)
    assert isinstance(variant, type)
    return variant


def _is_run(node: ast.AsyncWith) -> bool:
    return ast.unparse(node.items[0].context_expr).startswith("OperationRun(")


def _step_of(block: ast.stmt) -> str | None:
    """Return the name in ``async with operation.step(name)``; None for any other statement."""
    if not isinstance(block, ast.AsyncWith):
        return None
    call = block.items[0].context_expr
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr.endswith("step"):
        return str(ast.literal_eval(call.args[0]))
    return None

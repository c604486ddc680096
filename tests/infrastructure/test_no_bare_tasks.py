"""Only ``infrastructure.tasks`` creates asyncio tasks, so that each task is awaited or supervised."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import ROOT

PRODUCT = ("contracts", "infrastructure", "gateway", "schema", "resolvers", "workflows", "activities", "worker")
FORBIDDEN = frozenset(
    ("create_task", "ensure_future", "shield", "gather", "TaskGroup", "run_coroutine_threadsafe", "wait_for")
)
"""``wait_for``: before Python 3.12 it swallows a cancellation that arrives together with its result."""
ALLOWED = {
    ("infrastructure/tasks.py", "create_task"),
    ("infrastructure/tasks.py", "shield"),
    # In a workflow's own event loop; both are awaited in the same function.
    ("workflows/operation.py", "ensure_future"),
    ("workflows/operation.py", "shield"),
    # The base class of hypercorn, which awaits the applications of a connection.
    ("gateway/server/receive_queue.py", "TaskGroup"),
    ("gateway/server/protocol_selector.py", "TaskGroup"),
}


def forbidden_names(source: str) -> Iterator[tuple[str, int]]:
    """Yield the forbidden names that the source uses or imports, with their lines."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name) if name in FORBIDDEN:
                yield name, node.lineno
            case ast.ImportFrom(module="asyncio", names=names):
                yield from ((each.name, node.lineno) for each in names if each.name in FORBIDDEN)


@pytest.mark.parametrize("folder", PRODUCT)
def test_only_the_tasks_module_creates_tasks(folder: str) -> None:
    found = {
        (str(path.relative_to(ROOT)), name): line
        for path in sorted(Path(ROOT, folder).rglob("*.py"))
        if "node_modules" not in path.parts
        for name, line in forbidden_names(path.read_text())
    }
    assert {f"{path}:{line} {name}" for (path, name), line in found.items() if (path, name) not in ALLOWED} == set()


@pytest.mark.parametrize(
    "source",
    [
        "import asyncio\nasyncio.create_task(work())",
        "import asyncio as a\na.ensure_future(work())",
        "from asyncio import shield\nshield(work())",
        "from asyncio import gather as together",
        "asyncio.get_running_loop().create_task(work())",
        "async with asyncio.TaskGroup() as group: group.create_task(work())",
    ],
)
def test_scan_finds_each_way_to_create_a_task(source: str) -> None:
    assert list(forbidden_names(source.replace("async with", "async def f():\n  async with")))


def test_every_exception_of_the_rule_is_needed() -> None:
    for path, name in ALLOWED:
        assert name in {each for each, _ in forbidden_names((ROOT / path).read_text())}, f"{path} uses no {name}"

"""Only gateway/server uses hypercorn's internals; other modules use its public entry point and its settings."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.private_names import PACKAGES
from tests.stack import ROOT

PUBLIC = {"hypercorn.asyncio.serve", "hypercorn.config.Config"}
BELOW_HTTP = {"h11", "h2", "wsproto", "hyperframe", "priority"}


def imports(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def internals(source: str) -> set[str]:
    names = {name for name in imports(source) if name.partition(".")[0] in {"hypercorn", *BELOW_HTTP}}
    return names - PUBLIC


@pytest.mark.parametrize("package", PACKAGES)
def test_server_internals_are_used_in_gateway_server_only(package: str) -> None:
    used = {
        str(path.relative_to(ROOT)): internals(path.read_text())
        for path in (ROOT / package).rglob("*.py")
        if not path.is_relative_to(ROOT / "gateway" / "server")
    }
    assert {path: names for path, names in used.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    ["import h11", "from hypercorn.protocol.h2 import H2Protocol", "import hypercorn.utils", "import h2.events"],
)
def test_internals_are_recognized(source: str) -> None:
    assert internals(source)

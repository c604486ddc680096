"""Only gateway/server imports the internals of hypercorn, h11, h2 and wsproto."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.private_names import PACKAGES
from tests.stack import ROOT

PUBLIC = {"hypercorn.asyncio.serve", "hypercorn.config.Config"}
PROTOCOL_LIBRARIES = {"h11", "h2", "wsproto", "hyperframe", "priority"}


def imports(source: str) -> Iterator[str]:
    """Yield the full names of all imports of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def internal_imports(source: str) -> set[str]:
    """Return the imported names of the server libraries that are not public."""
    names = {name for name in imports(source) if name.partition(".")[0] in {"hypercorn", *PROTOCOL_LIBRARIES}}
    return names - PUBLIC


@pytest.mark.parametrize("package", PACKAGES)
def test_only_gateway_server_imports_server_internals(package: str) -> None:
    used = {
        str(path.relative_to(ROOT)): internal_imports(path.read_text())
        for path in (ROOT / package).rglob("*.py")
        if not path.is_relative_to(ROOT / "gateway" / "server")
    }
    assert {path: names for path, names in used.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    ["import h11", "from hypercorn.protocol.h2 import H2Protocol", "import hypercorn.utils", "import h2.events"],
)
def test_recognizes_imports_of_server_internals(source: str) -> None:
    assert internal_imports(source)

"""The private names of libraries that product code uses, each verified with the installed version of its library."""

from __future__ import annotations

import ast
import tomllib
from importlib.metadata import version
from pkgutil import resolve_name
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.private_names import defines, names_in, used_names
from tests.stack import ROOT

VERIFIED = {
    "graphql-core": "3.3.2",
    "h2": "4.4.1",
    "hypercorn": "0.18.0",
    "strawberry-graphql": "0.341.2",
    "tortoise-orm": "1.1.9",
    "wsproto": "1.3.2",
}
"""The versions with which the names below were verified. To upgrade a library: read its changes, run the tests of the
modules that this test lists, write the new version here, and write its next minor version into pyproject.toml.
"""


class PrivateName(NamedTuple):
    package: str
    owner: str
    """The class or function that defines the name, as ``module:name``."""
    name: str


NAMES = [
    PrivateName("graphql-core", "graphql.execution.execute:Executor", "_relevant_sub_fields"),
    PrivateName("h2", "h2.frame_buffer:FrameBuffer", "_data"),
    PrivateName("h2", "h2.frame_buffer:FrameBuffer", "_headers_buffer"),
    PrivateName("h2", "h2.frame_buffer:FrameBuffer", "_validate_frame_length"),
    PrivateName("hypercorn", "hypercorn.asyncio.tcp_server:TCPServer", "_close"),
    PrivateName("hypercorn", "hypercorn.asyncio.tcp_server:TCPServer", "_idle_timeout"),
    PrivateName("hypercorn", "hypercorn.asyncio.tcp_server:TCPServer", "_read_data"),
    PrivateName("hypercorn", "hypercorn.asyncio.tcp_server:TCPServer", "_task_group"),
    PrivateName("hypercorn", "hypercorn.protocol.h2:H2Protocol", "_flush"),
    PrivateName("hypercorn", "hypercorn.protocol.h2:H2Protocol", "_handle_events"),
    PrivateName("hypercorn", "hypercorn.protocol.h2:H2Protocol", "_window_updated"),
    PrivateName("hypercorn", "hypercorn.protocol.h2:StreamBuffer", "_complete"),
    PrivateName("hypercorn", "hypercorn.protocol.h2:StreamBuffer", "_is_empty"),
    PrivateName("hypercorn", "hypercorn.protocol.h2:StreamBuffer", "_paused"),
    PrivateName("strawberry-graphql", "strawberry:Schema", "_schema"),
    PrivateName("strawberry-graphql", "strawberry.asgi:GraphQL", "_process_stream_result"),
    PrivateName(
        "strawberry-graphql",
        "strawberry.subscriptions.protocols.graphql_transport_ws.handlers:BaseGraphQLTransportWSHandler",
        "_reject_incremental_delivery",
    ),
    PrivateName("tortoise-orm", "tortoise:Tortoise.init", "_enable_global_fallback"),
    PrivateName("wsproto", "wsproto.connection:Connection", "_state"),
]


@pytest.mark.parametrize("private", NAMES, ids=lambda private: f"{private.package} {private.name}")
def test_private_name_exists_in_the_installed_version(private: PrivateName) -> None:
    installed = version(private.package)
    assert defines(resolve_name(private.owner), private.name), (
        f"{private.package} {installed} has no {private.owner}.{private.name} any more; it was there in "
        f"{VERIFIED[private.package]}. Used in: {', '.join(sorted(used_names().get(private.name, ())))}"
    )


def test_product_code_uses_exactly_the_listed_names() -> None:
    used, listed = used_names(), {private.name for private in NAMES}
    new = {name: sorted(modules) for name, modules in used.items() if name not in listed}
    assert not new, f"use a public name, or list the private one in {__file__} with its owner: {new}"
    assert not listed - used.keys(), (
        f"no module uses these any more, so they are removed from the list: {listed - used.keys()}"
    )


@pytest.mark.parametrize("package", sorted(VERIFIED))
def test_installed_version_is_the_verified_one(package: str) -> None:
    names = [f"{private.owner}.{private.name}" for private in NAMES if private.package == package]
    assert Version(version(package)).release[:2] == Version(VERIFIED[package]).release[:2], (
        f"{package} {version(package)} is installed; verified with {VERIFIED[package]} were {names}"
    )
    assert names, f"no private name of {package} is used any more, so its version need not be listed"


@pytest.mark.parametrize("package", sorted(VERIFIED))
def test_package_is_pinned_below_its_next_minor_version(package: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = {each.name: each.specifier for each in map(Requirement, project["dependencies"])}
    assert package in requirements, f"pyproject.toml does not name {package}"
    major, minor = Version(VERIFIED[package]).release[:2]
    assert VERIFIED[package] in requirements[package]
    assert f"{major}.{minor + 1}.0" not in requirements[package], f"{package} has no bound below {major}.{minor + 1}"
    assert f"{major + 1}.0.0" not in requirements[package]


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from hypercorn._private import thing", {"hypercorn._private.thing"}),
        ("from temporalio.worker import _worker", {"temporalio.worker._worker"}),
        ("import temporalio.worker._worker", {"temporalio.worker._worker"}),
        ("import strawberry\nstrawberry.Info(_raw_info=1)", {"_raw_info"}),
        ("def f(schema): return schema._schema", {"_schema"}),
        ("def f(schema): return getattr(schema, '_schema')", {"_schema"}),
        ("def f(schema): schema._schema = 1", {"_schema"}),
        ("class A:\n def __init__(self): self._x = 1\n def f(self, other): return other._x", set()),
        ("import os\nos._exit(1)", set()),
        ("from gateway.x import _y", set()),
    ],
)
def test_scan_finds_each_way_to_use_a_private_name(code: str, found: set[str]) -> None:
    assert names_in(ast.parse(code), "contracts.base") == found

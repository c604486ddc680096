"""Minimum versions of dependencies: older versions have published vulnerabilities."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent.parent
FLOORS = {
    "strawberry-graphql": "0.327.2",
    "starlette": "1.3.1",
    "python-multipart": "0.0.27",
    "h11": "0.16.0",
    "h2": "4.4.1",
}
"""Older versions accept floods of aliases and frames, unlimited bodies or smuggled requests."""
LOCKS = sorted([ROOT / "requirements.lock", *ROOT.glob("docker/*.lock")])


def declared() -> dict[str, Requirement]:
    """Return the dependencies of the project by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [Requirement(each) for each in project["dependencies"]]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def locked(lock: Path) -> dict[str, str]:
    """Return the versions in a lock file by name."""
    return dict(re.findall(r"^([a-z0-9.-]+)(?:\[[^]]*\])?==([^\s;\\]+)", lock.read_text(), re.MULTILINE))


@pytest.mark.parametrize(("name", "floor"), FLOORS.items())
def test_project_requires_the_minimum_version(name: str, floor: str) -> None:
    requirement = declared()[name]
    lower = [Version(each.version) for each in requirement.specifier if each.operator in (">=", "==", "~=")]
    assert lower, f"{name} has no lower bound"
    assert max(lower) >= Version(floor)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(ROOT)))
@pytest.mark.parametrize(("name", "floor"), FLOORS.items())
def test_lock_files_contain_the_minimum_version(lock: Path, name: str, floor: str) -> None:
    assert Version(locked(lock)[name]) >= Version(floor)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(ROOT)))
def test_lock_files_pin_every_package_by_hash(lock: Path) -> None:
    packages = re.split(r"\n(?=[a-z0-9])", lock.read_text())[1:]
    assert len(packages) > 20
    assert [each.split(" ")[0] for each in packages if "--hash=sha256:" not in each] == []

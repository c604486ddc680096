"""Packages stay at or above the versions in which their published weaknesses were mended."""

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
"""What came in before is refused: floods of aliases and frames, bodies without a bound, smuggled requests."""
LOCKS = sorted([ROOT / "requirements.lock", *ROOT.glob("docker/*.lock")])


def declared() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [Requirement(each) for each in project["dependencies"]]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def locked(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9.-]+)(?:\[[^]]*\])?==([^\s;\\]+)", lock.read_text(), re.MULTILINE))


@pytest.mark.parametrize(("name", "floor"), FLOORS.items())
def test_no_older_version_may_be_installed(name: str, floor: str) -> None:
    requirement = declared()[name]
    lower = [Version(each.version) for each in requirement.specifier if each.operator in (">=", "==", "~=")]
    assert lower, f"{name} has no lower bound"
    assert max(lower) >= Version(floor)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(ROOT)))
@pytest.mark.parametrize(("name", "floor"), FLOORS.items())
def test_no_older_version_is_installed(lock: Path, name: str, floor: str) -> None:
    assert Version(locked(lock)[name]) >= Version(floor)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(ROOT)))
def test_every_package_is_held_to_its_hash(lock: Path) -> None:
    packages = re.split(r"\n(?=[a-z0-9])", lock.read_text())[1:]
    assert len(packages) > 20
    assert [each.split(" ")[0] for each in packages if "--hash=sha256:" not in each] == []

"""pytest plugin: distributes the tests to pytest-xdist's workers, and runs performance tests exclusively.

`make test` runs pytest with `-n auto --dist loadgroup`. A test marked ``xdist_group("alone")`` runs while no other
test runs.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadGroupScheduling

TESTS = Path(__file__).parent
ALONE = "alone"
WORKERS_PER_CORE = 2
"""More than one worker per core, because most tests spend most of their time waiting."""

RESOURCE_GROUPS = {
    "a deployed stack": (
        "tests/end_to_end/test_contract_",
        "tests/end_to_end/test_dashboard.py",
        "tests/end_to_end/test_eta.py",
        "tests/end_to_end/test_idempotency.py",
        "tests/monitoring/test_metrics.py",
    ),
    "a cluster": ("tests/clients/test_cuts.py", "tests/clients/test_outages.py", "tests/clients/test_restarts.py"),
    "a development stack and a separate one": (
        "tests/end_to_end/test_separate_processes.py",
        "tests/end_to_end/test_session_end_on_sockets.py",
        "tests/clients/test_following.py",
        "tests/security/test_tenants.py",
        "tests/gateway/security/test_sign_in.py",
    ),
    "a development stack": (
        "tests/end_to_end/test_readme.py",
        "tests/browser/",
        "tests/examples/",
        "tests/fuzz/test_generated.py",
    ),
}
"""Tests by the session fixtures that they share. One worker runs a group, because the fixtures start slowly."""

RUN_FIRST = (
    "tests/scaffold/",
    "tests/docs/",
    "tests/end_to_end/",
    "tests/clients/",
    "tests/chaos/",
    "tests/browser/",
    "tests/security/",
    "tests/workflows/",
)
"""The slowest tests, which start first, so that no worker is busy with one when the others have finished."""

LONG = ("tests/docs/", "tests/scaffold/", "tests/upgrades/", "tests/chaos/", "tests/clients/", "tests/examples/")
"""Tests that check copies of the whole project or start clusters: they take minutes on a slow machine."""
LONG_TIMEOUT_SECONDS = 480


class ResourceGroupScheduling(LoadGroupScheduling):
    """Assigns each test file to one worker, and the files of a resource group to the same worker."""

    def _split_scope(self, nodeid: str) -> str:
        group = super()._split_scope(nodeid)
        if group != nodeid:
            return group
        file = nodeid.split("::", 1)[0]
        return next((name for name, files in RESOURCE_GROUPS.items() if file.startswith(files)), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ResourceGroupScheduling | None:
    if config.option.dist != "loadgroup":
        return None
    config.option.loadscopereorder = False  # a file with many tests is not necessarily slow
    return ResourceGroupScheduling(config, log)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of workers; 0 if only a part of the tests runs, which is faster in this process."""
    is_whole_suite = any(TESTS.is_relative_to((config.invocation_params.dir / path).resolve()) for path in config.args)
    if not is_whole_suite or config.option.keyword or config.option.markexpr:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(WORKERS_PER_CORE * cores, 8)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(LONG) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LONG_TIMEOUT_SECONDS))
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=_priority)


def _priority(item: pytest.Item) -> int:
    if _is_alone(item):
        return len(RUN_FIRST) + 1
    return next((index for index, start in enumerate(RUN_FIRST) if item.nodeid.startswith(start)), len(RUN_FIRST))


def _is_alone(item: pytest.Item) -> bool:
    return any(ALONE in mark.args for mark in item.iter_markers("xdist_group"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run tests marked "alone" under an exclusive lock, and all other tests under a shared lock.

    The lock is acquired before the test's timeout begins.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    lock = os.open(Path(item.config.getoption("basetemp")).parent, os.O_RDONLY)  # a folder that all workers share
    try:
        fcntl.flock(lock, fcntl.LOCK_EX if _is_alone(item) else fcntl.LOCK_SH)
        return (yield)
    finally:
        os.close(lock)

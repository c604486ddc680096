"""How processes share the tests out, and how a test that measures has the machine for itself.

`make test` says `-n auto --dist loadgroup`. A test marked ``xdist_group("alone")`` runs while no other does.
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
PROCESSES_A_CORE = 2
"""Most tests wait most of the time: for servers, sockets and timers."""

GROUNDS = {
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
"""What shares something that takes seconds to start stays in one process: each has stacks of its own."""

FIRST = ("tests/end_to_end/", "tests/clients/", "tests/chaos/", "tests/browser/", "tests/security/", "tests/workflows/")
"""What takes longest, so that nobody is left with it at the end."""

LONG = ("tests/docs/", "tests/scaffold/", "tests/upgrades/", "tests/chaos/", "tests/clients/", "tests/examples/")
"""Tests that check whole copies of the tree or start clusters: they take minutes on a slow machine."""
LONG_TIMEOUT_SECONDS = 480


class ByGround(LoadGroupScheduling):
    """A file is run by one process, and so is what shares a ground."""

    def _split_scope(self, nodeid: str) -> str:
        group = super()._split_scope(nodeid)
        if group != nodeid:
            return group
        file = nodeid.split("::", 1)[0]
        return next((ground for ground, files in GROUNDS.items() if file.startswith(files)), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByGround | None:
    if config.option.dist != "loadgroup":
        return None
    config.option.loadscopereorder = False  # many tests are not long ones
    return ByGround(config, log)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A part of the tests runs in this process: it is done sooner so, and easier to read."""
    whole = any(TESTS.is_relative_to((config.invocation_params.dir / path).resolve()) for path in config.args)
    if not whole or config.option.keyword or config.option.markexpr:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(PROCESSES_A_CORE * cores, 8)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(LONG) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LONG_TIMEOUT_SECONDS))
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    if _is_alone(item):
        return len(FIRST) + 1
    return next((turn for turn, start in enumerate(FIRST) if item.nodeid.startswith(start)), len(FIRST))


def _is_alone(item: pytest.Item) -> bool:
    return any(ALONE in mark.args for mark in item.iter_markers("xdist_group"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let a test that runs alone wait until all others are done, for new ones do not queue behind it.

    The wait comes before everything else of the test, so that no timeout counts it.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    of_all_processes = os.open(Path(item.config.getoption("basetemp")).parent, os.O_RDONLY)
    try:
        fcntl.flock(of_all_processes, fcntl.LOCK_EX if _is_alone(item) else fcntl.LOCK_SH)
        return (yield)
    finally:
        os.close(of_all_processes)

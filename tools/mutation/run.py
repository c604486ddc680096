"""Run the tests against one mutant, in a process that works in its own copy of the project."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.queues import Queue

from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_item import MutationSpec, TestOutcome

from tests.stack import plain_environment


@dataclass(frozen=True)
class Job:
    """One mutant of the project copy in the current directory. ``timeout``: in seconds; a hang counts as noticed."""

    target: str
    mutant: MutationSpec
    tests: tuple[str, ...]
    timeout: float


@dataclass(frozen=True)
class Result:
    target: str
    mutant: MutationSpec
    was_noticed: bool
    change: str


def pytest_arguments(tests: Sequence[str]) -> list[str]:
    return ["-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]


def enter(queue: Queue[str]) -> None:
    """Work in a copy of the project that no other process uses."""
    os.chdir(queue.get())
    for name in set(os.environ) - set(plain_environment()):
        del os.environ[name]


def run(job: Job) -> Result:
    command = shlex.join([sys.executable, *pytest_arguments(job.tests)])
    done = mutate_and_test([job.mutant], command, job.timeout)
    if done.test_outcome is None:
        raise RuntimeError(f"{job.mutant} could not be made: {done.output}")
    return Result(job.target, job.mutant, done.test_outcome is not TestOutcome.SURVIVED, done.diff or "")

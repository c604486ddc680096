"""Run a seeded sample of mutants of the critical modules against their tests: ``python -m tools.mutation``.

Each mutant changes one expression. A mutant that no test notices survives: it is printed with its change, and belongs
into docs/mutation.md with the reason why it is equivalent, or gets a test.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path

from cosmic_ray.work_item import MutationSpec

from tests.project_copy import copy_project
from tests.stack import plain_environment
from tools.mutation.run import Job, Result, enter, pytest_arguments, run
from tools.mutation.sample import mutants_of, sample
from tools.mutation.targets import TARGETS, Target

PROCESSES = 2
_TIMEOUT_FACTOR = 3.0
_TIMEOUT_MARGIN_SECONDS = 30.0


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.mutation")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--only", choices=[target.name for target in TARGETS], action="append")
    chosen = parser.parse_args(arguments)
    targets = [target for target in TARGETS if not chosen.only or target.name in chosen.only]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="adx-mutation-") as folder:
        copies = [_copy(Path(folder), number) for number in range(PROCESSES)]
        jobs = [job for target in targets for job in _jobs(target, copies[0], chosen.count, chosen.seed)]
        context = get_context("spawn")
        queue: Queue[str] = context.Queue()
        for copy in copies:
            queue.put(str(copy))
        results = list[Result]()
        with ProcessPoolExecutor(PROCESSES, mp_context=context, initializer=enter, initargs=(queue,)) as pool:
            for result in pool.map(run, jobs):
                results.append(result)
                _report(result, len(results), len(jobs))
    noticed = sum(result.was_noticed for result in results)
    minutes = (time.monotonic() - began) / 60
    print(f"seed {chosen.seed}: {noticed} of {len(results)} mutants noticed in {minutes:.0f} minutes")
    return 0


def _copy(folder: Path, number: int) -> Path:
    copy = folder / str(number)
    copy.mkdir()
    return copy_project(copy, mypy_cache=folder / "mypy")


def _jobs(target: Target, root: Path, count: int, seed: int) -> list[Job]:
    began = time.monotonic()
    command = [sys.executable, *pytest_arguments(target.tests)]
    done = subprocess.run(command, cwd=root, env=plain_environment(), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"The tests of {target.name} fail without a mutant:\n{done.stdout[-3000:]}")
    seconds = time.monotonic() - began
    print(f"{target.name}: the tests take {seconds:.0f} s without a mutant", flush=True)
    timeout = seconds * _TIMEOUT_FACTOR + _TIMEOUT_MARGIN_SECONDS
    chosen = sample(mutants_of(target, root), round(count * target.share), seed)
    return [Job(target.name, _relative(each, root), target.tests, timeout) for each in chosen]


def _relative(mutant: MutationSpec, root: Path) -> MutationSpec:
    return MutationSpec(
        module_path=mutant.module_path.relative_to(root),
        operator_name=mutant.operator_name,
        occurrence=mutant.occurrence,
        start_pos=mutant.start_pos,
        end_pos=mutant.end_pos,
        operator_args=mutant.operator_args,
        definition_name=mutant.definition_name,
    )


def _report(result: Result, number: int, count: int) -> None:
    word = "noticed" if result.was_noticed else "SURVIVED"
    where = f"{result.mutant.module_path}:{result.mutant.start_pos[0]}"
    print(f"{number}/{count} {result.target} {where} {result.mutant.operator_name}: {word}", flush=True)
    if not result.was_noticed:
        print(result.change, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

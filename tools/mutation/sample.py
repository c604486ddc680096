"""Select mutants: a seeded sample of all changes that cosmic-ray can make to the target modules."""

from __future__ import annotations

import ast
import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from cosmic_ray.commands import init
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import MutationSpec

from tools.mutation.targets import Target


def mutants_of(target: Target, root: Path) -> list[MutationSpec]:
    """Return every mutant of the target's modules whose code is executed; annotations are not."""
    with tempfile.TemporaryDirectory(prefix="adx-mutation-") as folder:
        database = WorkDB(Path(folder) / "session.sqlite", WorkDB.Mode.create)
        init([root / module for module in target.modules], database, {})
        found = [mutation for item in database.work_items for mutation in item.mutations]
        database.close()
    annotations = {root / module: set(_annotation_lines(root / module)) for module in target.modules}
    return [each for each in found if _position(each) not in annotations[each.module_path]]


def sample(mutants: Sequence[MutationSpec], count: int, seed: int) -> list[MutationSpec]:
    """Choose ``count`` mutants, at most one per line while there are enough lines."""
    chance = random.Random(seed)
    shuffled = sorted(mutants, key=lambda each: (str(each.module_path), each.operator_name, each.occurrence))
    chance.shuffle(shuffled)
    first, rest, lines = list[MutationSpec](), list[MutationSpec](), set[tuple[Path, int]]()
    for each in shuffled:
        line = each.module_path, each.start_pos[0]
        (rest if line in lines else first).append(each)
        lines.add(line)
    return [*first, *rest][:count]


def _position(mutant: MutationSpec) -> tuple[int, int]:
    line, column = mutant.start_pos
    return line, column


def _annotation_lines(path: Path) -> Iterator[tuple[int, int]]:
    """Yield the line and column of each node inside an annotation: with postponed evaluation none is executed."""
    for node in ast.walk(ast.parse(path.read_text())):
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(annotation, ast.expr):
                for line in range(annotation.lineno, (annotation.end_lineno or annotation.lineno) + 1):
                    first = annotation.col_offset if line == annotation.lineno else 0
                    last = annotation.end_col_offset or 200 if line == annotation.end_lineno else 200
                    yield from ((line, column) for column in range(first, last))

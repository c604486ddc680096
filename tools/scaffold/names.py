"""What everything of a new operation is called, from its name alone; and which names cannot be had."""

from __future__ import annotations

import ast
import keyword
import re
from dataclasses import dataclass
from pathlib import Path

LONGEST = 40
RESERVED = frozenset(("undo", "test"))
"""Verbs that would be mistaken: an undo of something else, a test of something else."""


class Refused(Exception):
    """Why no operation is written, in one sentence."""


@dataclass(frozen=True)
class Names:
    """``archive_tenant`` in every form in which it is written, and the parts of its domain that it joins."""

    name: str
    domain: str
    ledger: str
    service: str
    """The class that acts, the name under which the activities hold it, and the module that it is in."""
    held: str
    service_module: str

    def words(self) -> dict[str, str]:
        """For templates."""
        verb, _, noun = self.name.partition("_")
        kind = f"{noun}_{verb}"
        return {
            "name": self.name,
            "words": self.name.replace("_", " ").capitalize(),
            "Name": _pascal(self.name),
            "mutation": _pascal(self.name)[0].lower() + _pascal(self.name)[1:],
            "KIND": kind.upper(),
            "Type": _pascal(kind),
            "domain": self.domain,
            "Domain": _pascal(self.domain),
            "ledger": self.ledger,
            "service": self.service,
            "held": self.held,
        }


def names_of(root: Path, name: str, domain: str) -> Names:
    """Raises Refused for a name that cannot be had, and for a domain that has no part for an operation's steps."""
    _check_form(name)
    known = domains(root)
    if domain not in known:
        raise Refused(f"{domain or 'Nothing'} is no domain with a ledger of steps: there are {', '.join(known)}.")
    ledger = _ledger(root / "activities" / domain / "models.py")
    assert ledger is not None
    names = Names(name, domain, ledger, *_service(root / "activities" / domain / "activities.py", _pascal(domain)))
    _check_free(root, names)
    return names


def _check_form(name: str) -> None:
    if not re.fullmatch(r"[a-z]+(_[a-z]+)+", name):
        raise Refused(
            f"{name or 'Nothing'} is no name: it is a verb, an underscore and a noun, such as archive_tenant."
        )
    if len(name) > LONGEST:
        raise Refused(f"{name} is too long: {LONGEST} letters are enough.")
    verb = name.partition("_")[0]
    if verb in RESERVED or keyword.iskeyword(verb):
        raise Refused(f"{name} cannot be had: names do not begin with {verb}.")


def domains(root: Path) -> list[str]:
    """Those whose services keep a ledger of their steps."""
    return sorted(path.parent.name for path in (root / "activities").glob("*/models.py") if _ledger(path))


def _check_free(root: Path, names: Names) -> None:
    name, words = names.name, names.words()
    for folder in ("workflows", "resolvers", "schema"):
        if (root / folder / f"{name}.py").exists():
            raise Refused(f"{name} is taken: there is {folder}/{name}.py already.")
    ours = {
        words["Name"],
        words["Type"],
        words["KIND"],
        words["mutation"],
        f"{words['Type']}Result",
        name,
        f"undo_{name}",
    }
    ours |= {f"{words['Name']}{end}" for end in ("Command", "Step", "Input", "Payload")}
    if clash := sorted(ours & _words_in_use(root)):
        raise Refused(f"{name} is taken: {clash[0]} means something else already.")


def _ledger(models: Path) -> str | None:
    classes = [node for node in ast.parse(models.read_text()).body if isinstance(node, ast.ClassDef)]
    return next(
        (node.name for node in classes if any(ast.unparse(base) == "IdempotencyRecord" for base in node.bases)), None
    )


def _service(activities: Path, owner: str) -> tuple[str, str, str]:
    """The service that the domain's activities are given first: its class, how they hold it, and its module."""
    tree = ast.parse(activities.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == owner:
            made = next(part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__")
            given, kept = made.args.args[1], made.body[0]
            if given.annotation and isinstance(kept, ast.Assign) and isinstance(kept.targets[0], ast.Attribute):
                service = ast.unparse(given.annotation)
                module = next(
                    each.module
                    for each in ast.walk(tree)
                    if isinstance(each, ast.ImportFrom)
                    and each.module
                    and service in [part.name for part in each.names]
                )
                return service, kept.targets[0].attr, module
    raise Refused(f"{activities} has no class {owner} that is given a service.")


def _words_in_use(root: Path) -> set[str]:
    """By contracts, by the schema and by activities."""
    used = set(re.findall(r"\w+", (root / "schema.graphql").read_text()))
    for path in (*(root / "contracts").glob("*.py"), *(root / "activities").glob("*/activities.py")):
        nodes = ast.walk(ast.parse(path.read_text()))
        used |= {node.name for node in nodes if isinstance(node, ast.ClassDef | ast.AsyncFunctionDef)}
    return used


def _pascal(name: str) -> str:
    return name.title().replace("_", "")

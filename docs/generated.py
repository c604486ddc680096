"""Generate two pages of the site from the code, as a hook of mkdocs.

``contract.md`` describes the GraphQL schema, and ``compensation.md`` the steps of each operation with their undos.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    build_schema,
    get_named_type,
    is_introspection_type,
    is_specified_scalar_type,
)
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from contracts.operations import STEPS, OperationKind
from workflows.compensations import COMPENSATIONS

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class WorkflowStep:
    """A step of an operation, read from the source of its workflow.

    ``activities`` and ``undo`` are names of activities, such as ``Users.create_user``. ``best_effort``: the operation
    continues if the step fails.
    """

    kind: OperationKind
    name: str
    activities: tuple[str, ...]
    undo: str | None
    best_effort: bool


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the files of the site; mkdocs calls this function."""
    for name, text in (("contract.md", contract_page()), ("compensation.md", compensation_page())):
        files.append(File.generated(config, name, content=text))
    return files


def compensation_page() -> str:
    """Return the Markdown of the page about operations, steps and undos."""
    lines = ["# Operations, steps and undos", "", "| operation | effect | mutations |", "|---|---|---|"]
    for kind, purpose in _purposes().items():
        lines.append(
            f"| [{kind}](#{kind.lower()}) | {purpose} | {', '.join(f'`{each}`' for each in _mutations_of(kind))} |"
        )
    lines += [
        "",
        "This page is generated from the workflows and the schema. An undo is registered before its step takes effect.",
        "If a later step fails or the operation is cancelled, the undos run, newest first. A step without an undo",
        "changes nothing.",
    ]
    kind = ""
    for step in steps():
        if step.kind != kind:
            kind = step.kind
            lines += ["", f"## {kind}", "", "| step | activities | undo |", "|---|---|---|"]
        undo = (
            f"`{step.undo}`"
            if step.undo
            else ("none: the operation continues if the step fails" if step.best_effort else "")
        )
        does = ", ".join(f"`{call}`" for call in step.activities) or "none: the step waits for the client"
        lines.append(f"| {step.name} | {does} | {undo} |")
    return "\n".join(lines) + "\n"


def steps() -> list[WorkflowStep]:
    """Return the steps of all operations, in the order of the operations and their steps."""
    found = [
        each for file in sorted((ROOT / "workflows").glob("*.py")) for each in _steps_of(ast.parse(file.read_text()))
    ]
    kinds = list(OperationKind)
    return sorted(found, key=lambda each: (kinds.index(each.kind), STEPS[each.kind].index(each.name)))


def _purposes() -> dict[OperationKind, str]:
    """Return the purpose of each operation: the part after the colon in the first line of its workflow's docstring."""
    modules = [ast.parse(file.read_text()) for file in sorted((ROOT / "workflows").glob("*.py"))]
    docstrings = {
        found[0].kind: ast.get_docstring(module) or "" for module in modules if (found := list(_steps_of(module)))
    }
    return {kind: docstrings[kind].splitlines()[0].rpartition(": ")[2] for kind in OperationKind}


def _mutations_of(kind: OperationKind) -> list[str]:
    """Return the mutations whose payload contains an operation of this kind."""
    mutations = build_schema((ROOT / "schema.graphql").read_text()).mutation_type
    assert mutations is not None
    payloads = {name: get_named_type(field.type) for name, field in mutations.fields.items()}
    operation_types = {
        name: str(get_named_type(payload.fields["operation"].type))
        for name, payload in payloads.items()
        if isinstance(payload, GraphQLObjectType) and "operation" in payload.fields
    }
    return [name for name, type_ in operation_types.items() if type_ == kind.title().replace("_", "")]


def _steps_of(module: ast.Module) -> Iterator[WorkflowStep]:
    kinds = [
        node.attr for node in ast.walk(module) if isinstance(node, ast.Attribute) and _is(node.value, "OperationKind")
    ]
    for block in (node for node in ast.walk(module) if isinstance(node, ast.AsyncWith)):
        opened = block.items[0].context_expr
        if not isinstance(opened, ast.Call) or not isinstance(opened.func, ast.Attribute) or not opened.args:
            continue
        if opened.func.attr in {"step", "best_effort_step"} and isinstance(opened.args[0], ast.Constant):
            nodes = [node for part in block.body for node in ast.walk(part) if isinstance(node, ast.Call)]
            yield WorkflowStep(
                kind=OperationKind[kinds[0]],
                name=str(opened.args[0].value),
                activities=(activities := _called_activities(nodes)),
                undo=_undo_of(activities),
                best_effort=opened.func.attr == "best_effort_step",
            )


def _called_activities(nodes: list[ast.Call]) -> tuple[str, ...]:
    """Return the activities among the arguments of ``operation.call(...)``."""
    return tuple(
        ast.unparse(each.args[0])
        for each in nodes
        if isinstance(each.func, ast.Attribute) and each.func.attr == "call" and each.args
    )


def _undo_of(activities: tuple[str, ...]) -> str | None:
    names = (call.rpartition(".")[2] for call in activities)
    return next((COMPENSATIONS[name].__qualname__ for name in names if name in COMPENSATIONS), None)


def _is(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def contract_page() -> str:
    """Return the Markdown of the page about the GraphQL schema."""
    schema = build_schema((ROOT / "schema.graphql").read_text())
    parts = ["# The contract\n\nThis page is generated from `schema.graphql`, which is served at `/graphql/schema`.\n"]
    for title, root in (
        ("Queries", schema.query_type),
        ("Mutations", schema.mutation_type),
        ("Subscriptions", schema.subscription_type),
    ):
        if root is not None:
            parts.append(f"## {title}\n\n{_fields(root.fields)}")
    parts.append("## Types\n")
    parts += [_type(schema.type_map[name]) for name in sorted(schema.type_map) if _is_shown(schema, name)]
    return "\n".join(parts)


def _is_shown(schema: GraphQLSchema, name: str) -> bool:
    type_ = schema.type_map[name]
    roots = (schema.query_type, schema.mutation_type, schema.subscription_type)
    return type_ not in roots and not is_introspection_type(type_) and not is_specified_scalar_type(type_)


def _type(type_: GraphQLNamedType) -> str:
    head = f"### {type_.name}\n\n{_text(type_.description)}\n"
    match type_:
        case GraphQLObjectType() | GraphQLInterfaceType():
            return f"{head}\n{_fields(type_.fields)}"
        case GraphQLInputObjectType():
            rows = [f"| {name} | `{field.type}` | {_text(field.description)} |" for name, field in type_.fields.items()]
        case GraphQLEnumType():
            rows = [f"| {name} | | {_text(value.description)} |" for name, value in type_.values.items()]
        case GraphQLUnionType():
            return f"{head}\nOne of {', '.join(f'`{each.name}`' for each in type_.types)}.\n"
        case _:
            return head
    return "\n".join([head, "| name | type | |", "|---|---|---|", *rows, ""])


def _fields(fields: dict[str, GraphQLField]) -> str:
    rows = []
    for name, field in fields.items():
        arguments = ", ".join(f"{key}: {argument.type}" for key, argument in field.args.items())
        rows.append(f"| {name}{f'({arguments})' if arguments else ''} | `{field.type}` | {_text(field.description)} |")
    return "\n".join(["| field | type | |", "|---|---|---|", *rows, ""])


def _text(description: str | None) -> str:
    return " ".join((description or "").split()).replace("|", "\\|")

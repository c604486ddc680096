"""A Hypothesis strategy of expensive and malformed GraphQL requests."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

_FIELDS = ("id", "user", "viewer", "operations", "nodes", "__typename", "__schema", "name", "steps", "node")
_NAMES = st.sampled_from((*_FIELDS, "nope", "a" * 300))
_COUNTS = st.sampled_from((1, 2, 5, 15, 16, 21, 60, 120, 240, 400, 900, 3_000))
_MAX_CHARACTERS = 300_000
"""More than a request body may contain; longer documents would only cost memory in the client of the test."""
_VALID = (
    "{ viewer { user { id name } } }",
    "{ viewer { operations(first: 100) { nodes { id progress { steps { name } } } } } }",
    'mutation { login(input: { email: "a@example.com", password: "p" }) { operation { id } } }',
    "{ __schema { types { name fields { name type { name } } } } }",
)


@st.composite
def _nested_fields(draw: st.DrawFn) -> str:
    """A document with deeply nested fields, whose braces may not match."""
    names, depth = draw(st.lists(_NAMES, min_size=1, max_size=4)), draw(_COUNTS)
    head = " ".join(names[:-1])
    return f"{{ {head} {names[-1]} " * depth + "{ id }" + " }" * draw(st.sampled_from((depth, depth - 1)))


@st.composite
def _many_fields(draw: st.DrawFn) -> str:
    """A document that repeats one selection many times."""
    count = draw(_COUNTS)
    element = draw(
        st.sampled_from(
            (
                "id",
                "user { id }",
                "a{n}: user {{ id }}",
                "... {{ id }}",
                "... on Viewer {{ user {{ ... {{ id }} }} }}",
                "operations(first: {n}) {{ totalCount }}",
                "a{n}: operations(first: 100) {{ nodes {{ id startedBy {{ id }} }} }}",
                "id @include(if: true)",
                "x{n}",
                "user { id name } user { name id }",
            )
        )
    )
    elements = " ".join(element.replace("{n}", str(n)).replace("{{", "{").replace("}}", "}") for n in range(count))
    return f"{{ viewer {{ {elements} }} }}"


@st.composite
def _fragments(draw: st.DrawFn) -> str:
    """Fragments that spread each other: chains, cycles and complete graphs."""
    count = draw(st.integers(1, 150))
    offsets = draw(st.lists(st.integers(-2, 40), min_size=1, max_size=6))
    wrapper = draw(st.sampled_from(("{}", "user {{ {} }}", "... on Viewer {{ {} }}", "a: user {{ {} }}")))
    links = []
    for n in range(count):
        spreads = " ".join(f"...f{(n + offset) % count}" for offset in offsets)
        links.append(f"fragment f{n} on {draw(st.sampled_from(('Viewer', 'User')))} {{ {wrapper.format(spreads)} id }}")
    return "{ viewer { ...f0 } } " + " ".join(links)


@st.composite
def _values(draw: st.DrawFn) -> str:
    """A document with an extreme literal as an argument or a default value."""
    value = draw(
        st.sampled_from(
            (
                "9" * 5_000,
                "-" + "9" * 300,
                "1e" + "9" * 300,
                "[" * 450 + "]" * 450,
                "{a:" * 300 + "1" + "}" * 300,
                '"' + "\\u0000" * 2_000 + '"',
                '"' + "\U0001f600" * 3_000 + '"',
                '"""' + "\n " * 6_000 + '"""',
                "[" + "1 " * 950 + "]",
                "$v",
                "null",
                '"\\ud800"',
            )
        )
    )
    where = draw(
        st.sampled_from(
            (
                "{{ node(id: {}) {{ id }} }}",
                "{{ nodes(ids: {}) {{ id }} }}",
                "{{ viewer {{ operations(first: {}) {{ totalCount }} }} }}",
                "query ($v: Int = {}) {{ viewer {{ operations(first: $v) {{ totalCount }} }} }}",
                "mutation {{ updatePreferences(input: {}) {{ preferences {{ language }} }} }}",
            )
        )
    )
    return where.format(value)


@st.composite
def _mutated_document(draw: st.DrawFn) -> str:
    """A valid document in which some pieces were replaced."""
    text = draw(st.sampled_from(_VALID))
    for _ in range(draw(st.integers(1, 6))):
        at, length = draw(st.integers(0, len(text))), draw(st.integers(0, 12))
        piece = draw(st.one_of(st.text(max_size=8), st.just(text[at : at + length] * 3)))
        text = text[:at] + piece + text[at + length :]
    return text


@st.composite
def _many_operations(draw: st.DrawFn) -> str:
    """A document with many operations."""
    count = draw(_COUNTS)
    return " ".join(draw(st.sampled_from(_VALID)).replace("{", f"query q{n} {{", 1) for n in range(min(count, 300)))


_INTROSPECTION_CYCLES = st.integers(1, 40).map(
    lambda n: "{ __schema { types { " + "fields { type { " * n + "name" + " } }" * n + " } } }"
)
_NOISE = st.sampled_from(
    ("#" * 200_000, "," * 100_000, "\ufeff" * 5_000, "{" * 14_000, '"' * 14_999, "...", "\x00" * 99)
)


@st.composite
def _variables(draw: st.DrawFn) -> object:
    """Flat, deeply nested or long variables, or none."""
    kind = draw(st.sampled_from(("none", "flat", "deep", "wide")))
    if kind == "flat":
        return draw(st.dictionaries(st.sampled_from(("v", "ids", "input", "x")), st.one_of(st.integers(), st.text())))
    if kind == "deep":
        value: Any = 1
        for _ in range(draw(st.integers(1, 60))):
            value = [value]
        return {"v": value}
    return {"v": ["x" * 20] * draw(_COUNTS)} if kind == "wide" else None


def requests() -> st.SearchStrategy[tuple[str, object]]:
    """Return a strategy of documents with variables."""
    hostile = (
        _nested_fields(),
        _many_fields(),
        _fragments(),
        _values(),
        _mutated_document(),
        _many_operations(),
        _INTROSPECTION_CYCLES,
        _NOISE,
        st.text(),
    )
    return st.tuples(st.one_of(*hostile).map(lambda text: text[:_MAX_CHARACTERS]), _variables())

"""Documents that are too expensive are refused before their execution, and the check itself is fast."""

from __future__ import annotations

import time
from typing import Any

import pytest
from graphql import GraphQLError, get_introspection_query

from schema.execution.document_cache import DocumentCache
from schema.schema import build_schema

LOGIN = 'login(input: { email: "a@example.com", password: "p" }) { operation { id } }'
NODE = "node(id: 1) { id }"


@pytest.fixture(scope="module")
def documents() -> DocumentCache:
    """The document cache of the real schema."""
    return build_schema().documents


def refusal_of(documents: DocumentCache, text: str, name: str | None = None, **variables: Any) -> str | None:
    """Return why the valid document is refused; None if it is admitted."""
    try:
        documents.check(text, variables, name)
    except GraphQLError as error:
        return error.message if error.extensions == {"code": "BAD_USER_INPUT", "fields": []} else None
    assert documents.parse(text).errors == ()
    return None


def fragment_chain(length: int, leaf: str = "id") -> str:
    """Return fragments that each spread the next one twice, which expand to 2 to the power of ``length`` fields."""
    fragments = " ".join(f"fragment f{n} on User {{ ...f{n + 1} ...f{n + 1} }}" for n in range(length))
    return f"{{ viewer {{ user {{ ...f0 }} }} }} {fragments} fragment f{length} on User {{ {leaf} }}"


def test_limits_the_length_of_a_document(documents: DocumentCache) -> None:
    text = "{ viewer { user { id } } } #"
    assert refusal_of(documents, text + "x" * (15_000 - len(text))) is None
    assert refusal_of(documents, text + "x" * (15_001 - len(text))) == "The document is longer than 15,000 bytes."
    assert refusal_of(documents, text + "\u20ac" * 5_000) == "The document is longer than 15,000 bytes."


def test_limits_the_tokens_of_a_document(documents: DocumentCache) -> None:
    many_elements = "{ nodes(ids: [" + '"" ' * 988 + "]) { id } }"
    assert refusal_of(documents, many_elements) is None
    assert refusal_of(documents, many_elements.replace('["" ', '["" "" ')) == "The document has more than 1,000 tokens."


@pytest.mark.parametrize("wrapper", ["{}", "... {{ {} }}", "... on Operation {{ {} }}"])
def test_limits_the_depth_of_fields_to_twelve(documents: DocumentCache, wrapper: str) -> None:
    inner = "id"
    for _ in range(11):
        inner = f"x {{ {wrapper.format(inner)} }}"
    assert "deeply" not in str(admission_error(documents, f"{{ {inner} }}"))
    assert "at most 12" in str(admission_error(documents, f"{{ x {{ {inner} }} }}"))


def admission_error(documents: DocumentCache, text: str) -> str | None:
    """Return the message of the refusal, or None; the document need not be valid."""
    try:
        documents.check(text, None, None)
    except GraphQLError as error:
        return error.message
    return None


def test_counts_depth_through_fragments(documents: DocumentCache) -> None:
    fragments = " ".join(f"fragment f{n} on Operation {{ x {{ ...f{n + 1} }} }}" for n in range(12))
    assert "at most 12" in str(
        admission_error(documents, f"{{ ...f0 }} {fragments} fragment f12 on Operation {{ id }}")
    )


def test_counts_aliases_in_expanded_fragments(documents: DocumentCache) -> None:
    def text(spreads: int) -> str:
        uses = " ".join("... on Viewer { ...some }" for _ in range(spreads))
        some = " ".join(f"{name}: user {{ id }}" for name in "abc")
        return f"{{ viewer {{ {uses} }} }} fragment some on Viewer {{ {some} }}"

    assert refusal_of(documents, text(5)) is None
    assert refusal_of(documents, text(6)) == "The document has more than 15 aliases after its fragments are expanded."


def test_counts_root_fields_in_expanded_fragments(documents: DocumentCache) -> None:
    def text(fields: int) -> str:
        return f"{{ {'__typename ' * (fields - 5)} ...five }} fragment five on Query {{ {'__typename ' * 5} }}"

    assert refusal_of(documents, text(20)) is None
    assert (
        refusal_of(documents, text(21)) == "The document has more than 20 root fields after its fragments are expanded."
    )


def test_counts_directives_at_every_position(documents: DocumentCache) -> None:
    def text(spreads: int) -> str:
        uses = " ".join("...f @include(if: true)" for _ in range(spreads))
        return f"{{ viewer {{ user {{ {uses} }} }} }} fragment f on User {{ id @include(if: true) }}"

    assert refusal_of(documents, text(25)) is None
    assert (
        refusal_of(documents, text(26)) == "The document has more than 50 directives after its fragments are expanded."
    )


def test_list_size_multiplies_the_cost_of_items(documents: DocumentCache) -> None:
    page = "viewer {{ operations(first: {}) {{ nodes {{ startedBy {{ id }} tenant {{ id }} }} }} }}"
    one = page.format(100)
    assert refusal_of(documents, f"{{ {one} }}") is None
    twenty = " ".join(f"a{n}: {page.format(100)}" for n in range(15))
    assert str(refusal_of(documents, f"{{ {twenty} }}")).startswith("The operation would cost 5,")
    assert refusal_of(documents, f"{{ {twenty.replace('100', '20')} }}") is None


def test_upstream_calls_cost_more_than_the_fields_of_their_responses(documents: DocumentCache) -> None:
    """100 login ids in each of 15 fields are 1,500 calls to Temporal in a document of 4.5 KB."""
    one = "nodes(ids: $ids) { id }"
    ids = [f"login-{n}" for n in range(100)]
    assert refusal_of(documents, f"query ($ids: [ID!]!) {{ {one} }}", ids=ids) is None
    many_elements = " ".join(f"a{n}: {one}" for n in range(15))
    assert "would cost" in str(refusal_of(documents, f"query ($ids: [ID!]!) {{ {many_elements} }}", ids=ids))
    assert refusal_of(documents, f"query ($ids: [ID!]!) {{ {many_elements} }}", ids=ids[:10]) is None
    each = " ".join(f'a{n}: operation(id: "login-{n}") {{ id }}' for n in range(15))
    [cost] = documents.parse(f"{{ {each} }}").max_costs.values()
    assert cost >= 15 * 20


@pytest.mark.parametrize(
    "text",
    [
        '{ node(id: "x") { id } }',
        '{ operation(id: "x") { id } }',
        "{ viewer { sessions { id } } }",
        "{ viewer { preferences { language } } }",
        "{ viewer { operations { totalCount } } }",
        "{ viewer { dashboard { recentFiles { id } } } }",
        'mutation { cancelOperation(input: { id: "x" }) { operation { id } } }',
        'subscription { operation(id: "x") { id } }',
    ],
)
def test_every_field_with_an_upstream_call_costs_a_call(documents: DocumentCache, text: str) -> None:
    [cost] = documents.parse(text).max_costs.values()
    assert cost >= 20


def test_fields_of_one_type_do_not_add_cost_to_other_types(documents: DocumentCache) -> None:
    kinds = ("Login", "TenantSwitch", "FileUpload", "FileProcessing", "UserOnboarding")
    each = "progress { steps { name status } } startedBy { id } tenant { id }"
    text = "{{ viewer {{ operations(first: 100) {{ nodes {{ id {} }} }} }} }}"
    assert refusal_of(documents, text.format(" ".join(f"... on {kind} {{ {each} }}" for kind in kinds))) is None
    assert refusal_of(documents, text.format(" ".join(f"a{n}: tenant {{ id }}" for n in range(15)))) is None
    one = documents.parse(text.format(f"... on Login {{ {each} }}"))
    combined = documents.parse(text.format(" ".join(f"... on {kind} {{ {each} }}" for kind in kinds)))
    assert one.max_costs == combined.max_costs


def test_variables_determine_the_list_size(documents: DocumentCache) -> None:
    page = "viewer { operations(first: $n) { nodes { startedBy { id } tenant { id } } } }"
    pages = " ".join(f"a{n}: {page}" for n in range(15))
    cases: list[tuple[str, dict[str, Any], bool]] = [
        ("$n: Int", {"n": 100}, False),
        ("$n: Int", {"n": 5}, True),
        ("$n: Int", {}, True),
        ("$n: Int", {"n": None}, True),
        ("$n: Int = 100", {}, False),
        ("$n: Int = 100", {"n": 5}, True),
    ]
    for declared, given, admitted in cases:
        assert (refusal_of(documents, f"query({declared}) {{ {pages} }}", **given) is None) is admitted, (
            declared,
            given,
        )


def test_counts_only_the_cost_of_the_executed_operation(documents: DocumentCache) -> None:
    page = "viewer { operations(first: 100) { nodes { startedBy { id } tenant { id } } } }"
    text = (
        f"query Large {{ {' '.join(f'a{n}: {page}' for n in range(15))} }} query Small {{ viewer {{ user {{ id }} }} }}"
    )
    assert refusal_of(documents, text, "Small") is None
    assert refusal_of(documents, text, "Large") is not None


@pytest.mark.parametrize(
    "text",
    [
        f"mutation {{ {LOGIN} b: {LOGIN} }}",
        f"mutation {{ ...f ...f }} fragment f on Mutation {{ {LOGIN} }}",
        f"mutation {{ {LOGIN} ... on Mutation {{ {LOGIN} }} }}",
        f"mutation A {{ {LOGIN} }} mutation B {{ {LOGIN} }}",
        f"mutation A {{ ...f }} mutation B {{ ...f }} fragment f on Mutation {{ {LOGIN} }}",
        f"mutation {{ {LOGIN} ... @skip(if: true) {{ {LOGIN} }} }}",
    ],
)
def test_refuses_a_repeated_login_in_every_syntax(documents: DocumentCache, text: str) -> None:
    assert refusal_of(documents, text) == "The document has login more than once."


@pytest.mark.parametrize("name", ["login", "submitMfaCode", "switchTenant", "onboardUser"])
def test_each_single_use_mutation_may_occur_once(documents: DocumentCache, name: str) -> None:
    mutation = f"{name}(input: {{}}) {{ operation {{ id }} }}"
    assert admission_error(documents, f"mutation {{ {mutation} }}") is None
    assert admission_error(documents, f"mutation {{ {mutation} x: {mutation} }}") is not None


def test_limits_the_number_of_equal_fields_to_compare(
    documents: DocumentCache,
) -> None:
    def text(times: int) -> str:
        return "{ viewer { " + "user { id } " * times + "} }"

    assert refusal_of(documents, text(100)) is None
    (error,) = documents.parse(text(150)).errors
    assert error.message == "The document selects the same fields too many times."


def test_admits_the_standard_introspection_query(documents: DocumentCache) -> None:
    combined: dict[str, bool] = dict.fromkeys(
        ("specified_by_url", "directive_is_repeatable", "schema_description", "input_value_deprecation"), True
    )
    assert refusal_of(documents, get_introspection_query(**combined)) is None


def test_refuses_cyclic_introspection(documents: DocumentCache) -> None:
    cycle = "{ __schema { types { fields { type { fields { name } } } } } }"
    assert refusal_of(documents, cycle) == "The introspection is nested too deeply."
    cycle_with_fragments = "{ __schema { types { ...f } } } fragment f on __Type { fields { type { ...g } } } "
    assert refusal_of(documents, cycle_with_fragments + "fragment g on __Type { fields { name } }") is not None


def test_disabled_introspection_reveals_nothing_of_the_schema() -> None:
    without_introspection = build_schema(introspection=False, suggestions=False).documents
    for text in ["{ __schema { description } }", '{ a: __type(name: "User") { name } }']:
        assert refusal_of(without_introspection, text) == "Introspection is disabled."
    assert refusal_of(without_introspection, "{ __typename viewer { __typename } }") is None
    for text in ["{ viewr { user } }", "{ viewer { usr } }", "{ node(idd: 1) { id } }", "{ ... on Usr { id } }"]:
        assert not any("mean" in error.message for error in without_introspection.parse(text).errors)
        assert any("mean" in error.message for error in build_schema().documents.parse(text).errors)


def test_limits_number_and_nesting_of_variable_values(documents: DocumentCache) -> None:
    text = "{ viewer { user { id } } }"
    assert refusal_of(documents, text, x=["y"] * 999) is None
    assert refusal_of(documents, text, x=["y"] * 1_000) == "The variables hold more than 1,000 values."
    nested: object = 1
    for _ in range(31):
        nested = [nested]
    assert refusal_of(documents, text, x=nested) is None
    assert str(refusal_of(documents, text, x=[nested])).startswith("The variables are nested too deeply")


@pytest.mark.parametrize(
    "where", ["{{ viewer {{ files(first: {}) {{ totalCount }} }} }}", "query ($n: Int = {}) {{ a }}"]
)
def test_excessively_long_number_is_an_error_in_the_document(documents: DocumentCache, where: str) -> None:
    [error] = (each for each in documents.parse(where.format("9" * 5_000)).errors if "too long" in each.message)
    assert error.original_error is None
    assert len(error.message) < 100


@pytest.mark.parametrize(
    "text",
    [
        fragment_chain(80),
        "{ viewer { user { " + "...f0 " * 300 + "} } } " + fragment_chain(40)[30:],
        "{ viewer { user { " + "id " * 990 + "} } }",
        "{ viewer { " + "user { id } " * 240 + "} }",
        "{ viewer { " + "user { ... { id } } " * 130 + "} }",
        "{ viewer { user { ...f0 } } } "
        + " ".join(
            f"fragment f{n} on User {{ {' '.join(f'...f{m}' for m in range(n + 1, 28))} id }}" for n in range(28)
        ),
        "{ " + "a { " * 495,
        "{ a(b: " + "[" * 900,
        '{ nodes(ids: ["' + "a" * 14_000 + '"]) { id } }',
        "{ viewer { files(first: " + "9" * 14_000 + ") { totalCount } } }",
        "{" + "a" * 14_000 + "}",
        "#" * 250_000,
        "{ " + "x " * 7_400,
        '"""' * 5_000,
        "{ viewer { user { id " + "@include(if: true) " * 160 + "} } }",
        "query (" + " ".join(f"$v{n}: Int" for n in range(240)) + ") { viewer { user { id } } }",
    ],
)
def test_checks_a_hostile_document_quickly(text: str) -> None:
    """The best of three measurements counts, because garbage collection of the test process may interfere."""
    documents = build_schema().documents
    cpu_seconds = []
    for _ in range(3):
        begun = time.process_time()
        admission_error(documents, text)
        cpu_seconds.append(time.process_time() - begun)
    assert min(cpu_seconds) < 0.25


def test_limits_the_total_size_of_cached_documents() -> None:
    documents = build_schema().documents
    for n in range(200):
        documents.check(f"query q{n} {{ nodes(ids: [{'1 ' * 400}]) {{ id }} }}", None, None)
    kept = list(documents.cached())
    assert sum(document.tokens for document in kept) <= 50_000
    assert 50 < len(kept) < 200


def test_caches_the_last_used_thousand_documents() -> None:
    documents = build_schema().documents
    first, second = (f"query q{n} {{ __typename }}" for n in range(2))
    documents.parse(first)
    documents.parse(second)
    for n in range(2, 1_000):
        documents.parse(f"query q{n} {{ __typename }}")
    documents.parse(first)
    documents.parse("query another { __typename }")
    kept = [document.tree.loc.source.body for document in documents.cached() if document.tree.loc]
    assert len(kept) == 1_000
    assert first in kept
    assert second not in kept


def test_does_not_cache_an_invalid_document(documents: DocumentCache) -> None:
    before = len(list(documents.cached()))
    assert documents.parse("{ viewer { nope } }").errors
    assert len(list(documents.cached())) == before

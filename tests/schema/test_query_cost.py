"""Documents that ask for too much are refused before anything of them is carried out, and quickly."""

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
    return build_schema().documents


def refused(documents: DocumentCache, text: str, name: str | None = None, **variables: Any) -> str | None:
    """Why it is refused; None where it is admitted."""
    try:
        documents.check(text, variables, name)
    except GraphQLError as error:
        return error.message if error.extensions == {"code": "BAD_USER_INPUT", "fields": []} else None
    assert documents.parse(text).errors == ()
    return None


def chain(length: int, leaf: str = "id") -> str:
    """Fragments each of which spreads the next one twice: expanded, two to the power of ``length`` fields."""
    links = " ".join(f"fragment f{n} on User {{ ...f{n + 1} ...f{n + 1} }}" for n in range(length))
    return f"{{ viewer {{ user {{ ...f0 }} }} }} {links} fragment f{length} on User {{ {leaf} }}"


def test_a_document_may_be_as_long_as_the_limit_and_no_longer(documents: DocumentCache) -> None:
    text = "{ viewer { user { id } } } #"
    assert refused(documents, text + "x" * (15_000 - len(text))) is None
    assert refused(documents, text + "x" * (15_001 - len(text))) == "The document is longer than 15,000 bytes."
    assert refused(documents, text + "\u20ac" * 5_000) == "The document is longer than 15,000 bytes."


def test_a_document_may_have_as_many_tokens_as_the_limit_and_no_more(documents: DocumentCache) -> None:
    many = "{ nodes(ids: [" + '"" ' * 988 + "]) { id } }"
    assert refused(documents, many) is None
    assert refused(documents, many.replace('["" ', '["" "" ')) == "The document has more than 1,000 tokens."


@pytest.mark.parametrize("through", ["{}", "... {{ {} }}", "... on Operation {{ {} }}"])
def test_fields_lie_at_most_twelve_deep_whatever_they_lie_in(documents: DocumentCache, through: str) -> None:
    inner = "id"
    for _ in range(11):
        inner = f"x {{ {through.format(inner)} }}"
    assert "deeply" not in str(documents_error(documents, f"{{ {inner} }}"))
    assert "at most 12" in str(documents_error(documents, f"{{ x {{ {inner} }} }}"))


def documents_error(documents: DocumentCache, text: str) -> str | None:
    try:
        documents.check(text, None, None)
    except GraphQLError as error:
        return error.message
    return None


def test_depth_is_counted_through_fragments(documents: DocumentCache) -> None:
    links = " ".join(f"fragment f{n} on Operation {{ x {{ ...f{n + 1} }} }}" for n in range(12))
    assert "at most 12" in str(documents_error(documents, f"{{ ...f0 }} {links} fragment f12 on Operation {{ id }}"))


def test_aliases_are_counted_once_fragments_are_expanded(documents: DocumentCache) -> None:
    def text(spreads: int) -> str:
        uses = " ".join("... on Viewer { ...some }" for _ in range(spreads))
        some = " ".join(f"{name}: user {{ id }}" for name in "abc")
        return f"{{ viewer {{ {uses} }} }} fragment some on Viewer {{ {some} }}"

    assert refused(documents, text(5)) is None
    assert refused(documents, text(6)) == "The document has more than 15 aliases after its fragments are expanded."


def test_fields_at_the_root_are_counted_once_fragments_are_expanded(documents: DocumentCache) -> None:
    def text(fields: int) -> str:
        return f"{{ {'__typename ' * (fields - 5)} ...five }} fragment five on Query {{ {'__typename ' * 5} }}"

    assert refused(documents, text(20)) is None
    assert refused(documents, text(21)) == "The document has more than 20 root fields after its fragments are expanded."


def test_directives_are_counted_wherever_they_stand(documents: DocumentCache) -> None:
    def text(spreads: int) -> str:
        uses = " ".join("...f @include(if: true)" for _ in range(spreads))
        return f"{{ viewer {{ user {{ {uses} }} }} }} fragment f on User {{ id @include(if: true) }}"

    assert refused(documents, text(25)) is None
    assert refused(documents, text(26)) == "The document has more than 50 directives after its fragments are expanded."


def test_lists_multiply_what_their_items_cost(documents: DocumentCache) -> None:
    page = "viewer {{ operations(first: {}) {{ nodes {{ startedBy {{ id }} tenant {{ id }} }} }} }}"
    one = page.format(100)
    assert refused(documents, f"{{ {one} }}") is None
    twenty = " ".join(f"a{n}: {page.format(100)}" for n in range(15))
    assert str(refused(documents, f"{{ {twenty} }}")).startswith("The operation would cost 5,")
    assert refused(documents, f"{{ {twenty.replace('100', '20')} }}") is None


def test_upstream_calls_cost_more_than_what_is_shown_of_their_answers(documents: DocumentCache) -> None:
    """100 login ids in each of 15 fields are 1,500 calls of Temporal in 4.5 KB, whatever is shown of each."""
    one = "nodes(ids: $ids) { id }"
    ids = [f"login-{n}" for n in range(100)]
    assert refused(documents, f"query ($ids: [ID!]!) {{ {one} }}", ids=ids) is None
    many = " ".join(f"a{n}: {one}" for n in range(15))
    assert "would cost" in str(refused(documents, f"query ($ids: [ID!]!) {{ {many} }}", ids=ids))
    assert refused(documents, f"query ($ids: [ID!]!) {{ {many} }}", ids=ids[:10]) is None
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
def test_every_field_that_has_something_called_costs_a_call(documents: DocumentCache, text: str) -> None:
    [cost] = documents.parse(text).max_costs.values()
    assert cost >= 20


def test_what_is_asked_of_one_type_only_costs_no_object_of_another(documents: DocumentCache) -> None:
    kinds = ("Login", "TenantSwitch", "FileUpload", "FileProcessing", "UserOnboarding")
    each = "progress { steps { name status } } startedBy { id } tenant { id }"
    text = "{{ viewer {{ operations(first: 100) {{ nodes {{ id {} }} }} }} }}"
    assert refused(documents, text.format(" ".join(f"... on {kind} {{ {each} }}" for kind in kinds))) is None
    assert refused(documents, text.format(" ".join(f"a{n}: tenant {{ id }}" for n in range(15)))) is None
    one = documents.parse(text.format(f"... on Login {{ {each} }}"))
    every = documents.parse(text.format(" ".join(f"... on {kind} {{ {each} }}" for kind in kinds)))
    assert one.max_costs == every.max_costs


def test_variables_say_how_long_a_list_is(documents: DocumentCache) -> None:
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
        assert (refused(documents, f"query({declared}) {{ {pages} }}", **given) is None) is admitted, (declared, given)


def test_what_an_operation_costs_is_that_of_the_one_carried_out(documents: DocumentCache) -> None:
    page = "viewer { operations(first: 100) { nodes { startedBy { id } tenant { id } } } }"
    text = (
        f"query Large {{ {' '.join(f'a{n}: {page}' for n in range(15))} }} query Small {{ viewer {{ user {{ id }} }} }}"
    )
    assert refused(documents, text, "Small") is None
    assert refused(documents, text, "Large") is not None


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
def test_a_document_signs_in_once_however_it_is_disguised(documents: DocumentCache, text: str) -> None:
    assert refused(documents, text) == "The document has login more than once."


@pytest.mark.parametrize("name", ["login", "submitMfaCode", "switchTenant", "onboardUser"])
def test_each_guarded_mutation_may_be_in_a_document_once(documents: DocumentCache, name: str) -> None:
    mutation = f"{name}(input: {{}}) {{ operation {{ id }} }}"
    assert documents_error(documents, f"mutation {{ {mutation} }}") is None
    assert documents_error(documents, f"mutation {{ {mutation} x: {mutation} }}") is not None


def test_a_hundred_fragments_may_ask_for_the_same_and_not_so_many_that_to_compare_them_takes_long(
    documents: DocumentCache,
) -> None:
    def text(times: int) -> str:
        return "{ viewer { " + "user { id } " * times + "} }"

    assert refused(documents, text(100)) is None
    (error,) = documents.parse(text(150)).errors
    assert error.message == "The document selects the same fields too many times."


def test_an_explorer_may_ask_for_the_whole_schema(documents: DocumentCache) -> None:
    every: dict[str, bool] = dict.fromkeys(
        ("specified_by_url", "directive_is_repeatable", "schema_description", "input_value_deprecation"), True
    )
    assert refused(documents, get_introspection_query(**every)) is None


def test_introspection_does_not_go_in_circles(documents: DocumentCache) -> None:
    circle = "{ __schema { types { fields { type { fields { name } } } } } }"
    assert refused(documents, circle) == "The introspection is nested too deeply."
    around = "{ __schema { types { ...f } } } fragment f on __Type { fields { type { ...g } } } "
    assert refused(documents, around + "fragment g on __Type { fields { name } }") is not None


def test_where_introspection_is_off_the_schema_is_not_told() -> None:
    hidden = build_schema(introspection=False, suggestions=False).documents
    for text in ["{ __schema { description } }", '{ a: __type(name: "User") { name } }']:
        assert refused(hidden, text) == "Introspection is disabled."
    assert refused(hidden, "{ __typename viewer { __typename } }") is None
    for text in ["{ viewr { user } }", "{ viewer { usr } }", "{ node(idd: 1) { id } }", "{ ... on Usr { id } }"]:
        assert not any("mean" in error.message for error in hidden.parse(text).errors)
        assert any("mean" in error.message for error in build_schema().documents.parse(text).errors)


def test_variables_hold_and_nest_only_so_many_values(documents: DocumentCache) -> None:
    text = "{ viewer { user { id } } }"
    assert refused(documents, text, x=["y"] * 999) is None
    assert refused(documents, text, x=["y"] * 1_000) == "The variables hold more than 1,000 values."
    nested: object = 1
    for _ in range(31):
        nested = [nested]
    assert refused(documents, text, x=nested) is None
    assert str(refused(documents, text, x=[nested])).startswith("The variables are nested too deeply")


@pytest.mark.parametrize(
    "where", ["{{ viewer {{ files(first: {}) {{ totalCount }} }} }}", "query ($n: Int = {}) {{ a }}"]
)
def test_a_number_that_python_does_not_read_is_the_writers_mistake(documents: DocumentCache, where: str) -> None:
    [error] = (each for each in documents.parse(where.format("9" * 5_000)).errors if "too long" in each.message)
    assert error.original_error is None
    assert len(error.message) < 100


@pytest.mark.parametrize(
    "text",
    [
        chain(80),
        "{ viewer { user { " + "...f0 " * 300 + "} } } " + chain(40)[30:],
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
def test_judging_a_hostile_document_takes_a_moment(text: str) -> None:
    """The best of three, for the process that runs the tests has garbage of its own to collect."""
    documents = build_schema().documents
    taken = []
    for _ in range(3):
        begun = time.process_time()
        documents_error(documents, text)
        taken.append(time.process_time() - begun)
    assert min(taken) < 0.25


def test_only_so_much_of_what_was_read_is_kept() -> None:
    documents = build_schema().documents
    for n in range(200):
        documents.check(f"query q{n} {{ nodes(ids: [{'1 ' * 400}]) {{ id }} }}", None, None)
    kept = list(documents.cached())
    assert sum(document.tokens for document in kept) <= 50_000
    assert 50 < len(kept) < 200


def test_a_thousand_documents_are_kept_those_used_last() -> None:
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


def test_a_document_with_mistakes_is_not_kept(documents: DocumentCache) -> None:
    before = len(list(documents.cached()))
    assert documents.parse("{ viewer { nope } }").errors
    assert len(list(documents.cached())) == before

"""Documents that schemathesis makes of the schema, sent to the whole product: whatever they say, it has an answer.

``FUZZ_CASES`` says how many; 300 where it does not.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any, cast

import httpx
import schemathesis
from graphql import GraphQLSchema, build_schema, print_schema
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.graphql import nodes

from tests.end_to_end.client import PASSWORD
from tests.stack import ROOT, Stack

CASES = int(os.environ.get("FUZZ_CASES", "300"))
MOST_BYTES = 2**53 - 1
"""The greatest ByteCount."""
_UNKNOWN = ("defer", "stream")
"""Directives that the generator takes for a mistake."""
LOG_IN = """
mutation ($input: LoginInput!) { login(input: $input) { sessionToken operation { status } } }
"""


def documents() -> st.SearchStrategy[str]:
    """Each asks for a field at the root, in a way that the schema allows."""
    schemathesis.graphql.scalar("ByteCount", st.integers(min_value=0, max_value=MOST_BYTES).map(nodes.Int))
    served = build_schema((ROOT / "schema.graphql").read_text())
    told = served.to_kwargs()
    told["directives"] = tuple(each for each in served.directives if each.name not in _UNKNOWN)
    schema = schemathesis.graphql.from_file(print_schema(GraphQLSchema(**told)))
    fields: list[Any] = list(schema.get_all_operations())
    assert len(fields) > 15
    return st.one_of([field.ok().as_strategy() for field in fields]).map(lambda case: str(case.body))


def test_the_gateway_has_an_answer_to_whatever_the_schema_allows(dev_stack: Stack) -> None:
    log = dev_stack.data_dir / "stack.log"
    told_before = log.stat().st_size
    codes: Counter[str] = Counter()
    with httpx.Client(base_url=dev_stack.url, timeout=60) as client:
        headers = {"authorization": f"Bearer {_signed_in(client)}"}

        @settings(
            max_examples=CASES,
            deadline=None,
            database=None,
            derandomize="FUZZ_CASES" not in os.environ,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(document=documents())
        def ask(document: str) -> None:
            signed = {} if "logout" in document else headers
            answer = client.post("/graphql", json={"query": document}, headers=signed)
            assert answer.status_code < 500, document
            assert "Traceback" not in answer.text, document
            codes.update(_codes(answer.json()))

        ask()
        assert _is_open(client, headers)
    assert "INTERNAL" not in codes, codes
    assert codes["answered"] > CASES / 20, codes
    assert _tracebacks(log, told_before) == []


def _signed_in(client: httpx.Client) -> str:
    given = {"email": "grace@example.com", "password": PASSWORD}
    answer = client.post("/graphql", json={"query": LOG_IN, "variables": {"input": given}}).json()
    client.cookies.clear()  # a document without a token shall have no session
    return cast(str, answer["data"]["login"]["sessionToken"])


def _is_open(client: httpx.Client, headers: dict[str, str]) -> bool:
    answer = client.post("/graphql", json={"query": "{ viewer { user { id } } }"}, headers=headers)
    return answer.json()["data"]["viewer"] is not None


def _codes(answer: dict[str, Any]) -> list[str]:
    return [each["extensions"]["code"] for each in answer.get("errors", ())] or ["answered"]


def _tracebacks(log: Path, begin: int) -> list[str]:
    with log.open(errors="replace") as lines:
        lines.seek(begin)
        return [line for line in lines if "Traceback" in line or '"exception"' in line]

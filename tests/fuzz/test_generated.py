"""Documents that schemathesis generates from the schema never cause an internal error of the product.

``FUZZ_CASES`` is the number of documents; the default is 300.
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
MAX_BYTE_COUNT = 2**53 - 1
"""The largest ByteCount."""
_UNKNOWN = ("defer", "stream")
"""Directives that the generator does not accept."""
LOG_IN = """
mutation ($input: LoginInput!) { login(input: $input) { sessionToken operation { status } } }
"""


def documents() -> st.SearchStrategy[str]:
    """Return a strategy of valid documents that each select one root field."""
    schemathesis.graphql.scalar("ByteCount", st.integers(min_value=0, max_value=MAX_BYTE_COUNT).map(nodes.Int))
    served = build_schema((ROOT / "schema.graphql").read_text())
    schema_arguments = served.to_kwargs()
    schema_arguments["directives"] = tuple(each for each in served.directives if each.name not in _UNKNOWN)
    schema = schemathesis.graphql.from_file(print_schema(GraphQLSchema(**schema_arguments)))
    fields: list[Any] = list(schema.get_all_operations())
    assert len(fields) > 15
    return st.one_of([field.ok().as_strategy() for field in fields]).map(lambda case: str(case.body))


def test_generated_documents_never_cause_an_internal_error(dev_stack: Stack) -> None:
    log = dev_stack.data_dir / "stack.log"
    log_size_before = log.stat().st_size
    codes: Counter[str] = Counter()
    with httpx.Client(base_url=dev_stack.url, timeout=60) as client:
        headers = {"authorization": f"Bearer {_session_token(client)}"}

        @settings(
            max_examples=CASES,
            deadline=None,
            database=None,
            derandomize="FUZZ_CASES" not in os.environ,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(document=documents())
        def execute(document: str) -> None:
            request_headers = {} if "logout" in document else headers
            response = client.post("/graphql", json={"query": document}, headers=request_headers)
            assert response.status_code < 500, document
            assert "Traceback" not in response.text, document
            codes.update(_codes(response.json()))

        execute()
        assert _is_signed_in(client, headers)
    assert "INTERNAL" not in codes, codes
    assert codes["answered"] > CASES / 20, codes
    assert _tracebacks(log, log_size_before) == []


def _session_token(client: httpx.Client) -> str:
    """Log in as Grace and return the session token."""
    login_input = {"email": "grace@example.com", "password": PASSWORD}
    response = client.post("/graphql", json={"query": LOG_IN, "variables": {"input": login_input}}).json()
    client.cookies.clear()  # documents without a token must have no session
    return cast(str, response["data"]["login"]["sessionToken"])


def _is_signed_in(client: httpx.Client, headers: dict[str, str]) -> bool:
    """Return whether the session of the headers is still valid."""
    response = client.post("/graphql", json={"query": "{ viewer { user { id } } }"}, headers=headers)
    return response.json()["data"]["viewer"] is not None


def _codes(response: dict[str, Any]) -> list[str]:
    """Return the error codes of a response; "answered" if there is no error."""
    return [each["extensions"]["code"] for each in response.get("errors", ())] or ["answered"]


def _tracebacks(log: Path, offset: int) -> list[str]:
    """Return the lines of the log after this offset that contain a traceback."""
    with log.open(errors="replace") as lines:
        lines.seek(offset)
        return [line for line in lines if "Traceback" in line or '"exception"' in line]

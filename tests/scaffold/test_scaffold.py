"""``make operation`` writes an operation that passes every check and its own tests at once; or nothing, saying why."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.npm import installed
from tests.project_copy import copy_project, read_files, run_in
from tests.stack import ROOT
from tools.scaffold.names import LONGEST, Refused, names_of

CHECKS = (["ruff", "format", "--check", "."], ["ruff", "check", "."], ["mypy"], ["schema", "--check"])


SWEEPS = (
    "tests/docs/test_site.py",
    "tests/docs/test_code_blocks.py::test_every_code_block_has_a_test_or_a_reason",
    "tests/docs/test_facts.py",
    "tests/chaos/test_deaths.py::test_there_are_points_before_and_behind_each_effect_and_within_each_undo",
    "tests/chaos/test_invariants.py",
    "tests/schema/test_errors.py",
    "tests/security/test_tenants.py::test_an_id_of_another_tenant_one_that_is_gone_and_a_random_one_are_answered_alike[dev_stack]",
    "tests/end_to_end/test_contract_nodes.py::test_every_kind_of_node_is_found_by_its_id[dev_stack]",
    "tests/scaffold/test_scaffold.py::test_what_cannot_be_had_is_refused_in_a_sentence",
)
"""Tests over all kinds of operations, all types, fields, arguments and ids of the schema, or all pages."""

RECORDED = "archive_tenant or is_recorded or is_gone"
"""The tests of its histories, and of there being all of them."""


@pytest.fixture
def tree(tmp_path: Path, mypy_cache: Path) -> Path:
    return copy_project(tmp_path / "tree", mypy_cache=mypy_cache)


def make(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.scaffold", *arguments]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    ("name", "domain", "why"),
    [
        ("archive", "tenants", "archive is no name: it is a verb, an underscore and a noun, such as archive_tenant."),
        ("archiveTenant", "tenants", "archiveTenant is no name: "),
        ("archive-tenant", "tenants", "archive-tenant is no name: "),
        ("2fast_tenant", "tenants", "2fast_tenant is no name: "),
        ("_archive_tenant", "tenants", "_archive_tenant is no name: "),
        ("../archive_tenant", "tenants", "../archive_tenant is no name: "),
        ("", "tenants", "Nothing is no name: "),
        (f"archive_{'x' * LONGEST}", "tenants", f"archive_{'x' * LONGEST} is too long: {LONGEST} letters are enough."),
        ("undo_switch", "tenants", "undo_switch cannot be had: names do not begin with undo."),
        ("import_tenant", "tenants", "import_tenant cannot be had: names do not begin with import."),
        ("switch_tenant", "tenants", "switch_tenant is taken: there is workflows/switch_tenant.py already."),
        ("create_upload", "files", "create_upload is taken: CreateUploadInput means something else already."),
        ("check_access", "tenants", "check_access is taken: check_access means something else already."),
        (
            "archive_tenant",
            "tenant",
            "tenant is no domain with a ledger of steps: there are auth, files, tenants, users",
        ),
        ("archive_tenant", "notifications", "notifications is no domain with a ledger of steps: "),
        ("archive_tenant", "../files", "../files is no domain with a ledger of steps: "),
        ("archive_tenant", "", "Nothing is no domain with a ledger of steps: "),
    ],
)
def test_what_cannot_be_had_is_refused_in_a_sentence(name: str, domain: str, why: str) -> None:
    with pytest.raises(Refused) as refused:
        names_of(ROOT, name, domain)
    assert str(refused.value).startswith(why)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("path", "was", "becomes", "gone"),
    [
        ("worker/registry.py", "WORKFLOWS", "SAGAS", "WORKFLOWS"),
        ("contracts/operations.py", "class OperationKind", "class Kind", "class OperationKind"),
        ("resolvers/operations/retry.py", "async def retry(", "async def again(", "match in retry"),
        ("schema/mutation.py", "class Mutation:", "class Deeds:", "class Mutation"),
    ],
)
def test_where_a_place_is_gone_it_says_which_and_writes_nothing(
    tree: Path, path: str, was: str, becomes: str, gone: str
) -> None:
    (tree / path).write_text((tree / path).read_text().replace(was, becomes))
    before = read_files(tree)
    done = make(tree, "archive_tenant", "tenants")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{path} has no {gone} any more, where a part of every operation stands.\n"
    assert read_files(tree) == before


def test_where_the_operation_does_not_run_nothing_of_it_stays(tree: Path) -> None:
    (tree / "schema/scalars.py").write_text("raise SystemExit('no scalars')\n")
    before = read_files(tree)
    done = make(tree, "archive_tenant", "tenants")
    assert done.returncode == 1
    assert done.stderr == "Nothing is written, for python -m schema fails on it:\nno scalars\n"
    assert read_files(tree) == before


def test_two_operations_of_different_domains_pass_every_check_and_their_own_tests(tree: Path) -> None:
    long = f"reconsider_token_{'n' * (LONGEST - len('reconsider_token_'))}"
    for name, domain in (("archive_tenant", "tenants"), (long, "files")):
        done = make(tree, name, domain)
        assert done.returncode == 0, done.stderr
    again = make(tree, "archive_tenant", "tenants")
    assert (again.returncode, again.stderr) == (
        1,
        "archive_tenant is taken: there is workflows/archive_tenant.py already.\n",
    )

    assert "archiveTenant(input: ArchiveTenantInput!): ArchiveTenantPayload!" in (tree / "schema.graphql").read_text()
    for check in CHECKS:
        run_in(tree, sys.executable, "-m", *check)
    run_in(tree, str(Path(sys.executable).parent / "lint-imports"))
    of_the_second = f"tests/workflows/test_{long}.py::test_it_is_done_once_however_often_it_is_tried"
    of_the_first = ("tests/workflows/test_archive_tenant.py", "tests/end_to_end/test_archive_tenant.py")
    pytest_in = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    said = run_in(tree, *pytest_in, of_the_second, *of_the_first)
    run_in(tree, sys.executable, "-m", "tests.histories.record", "archive_tenant")
    said += run_in(tree, *pytest_in, "tests/histories", "tests/workflows/test_repair_operation.py", "-k", RECORDED)
    assert said.count(" passed") == 2
    assert "skipped" not in said


@pytest.mark.timeout(900)
def test_a_new_operation_breaks_no_test_that_goes_through_all_operations_and_types(tree: Path) -> None:
    done = make(tree, "archive_tenant", "tenants")
    assert done.returncode == 0, done.stderr
    said = run_in(tree, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *SWEEPS)
    assert " passed" in said


@pytest.mark.timeout(600)
def test_a_new_operation_leaves_the_example_page_as_it_is_and_building(tree: Path) -> None:
    done = make(tree, "archive_tenant", "tenants")
    assert done.returncode == 0, done.stderr
    web = tree / "examples" / "web"
    (web / "node_modules").symlink_to(installed(ROOT / "examples" / "web") / "node_modules")
    assert "TENANT_ARCHIVE" in (tree / "schema.graphql").read_text()
    run_in(web, str(shutil.which("npm")), "run", "build")

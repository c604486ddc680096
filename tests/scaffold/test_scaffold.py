"""``make operation`` and ``make domain``: generated code passes every check and its tests, or nothing is written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.npm import installed_project
from tests.project_copy import copy_project, read_files, run_in
from tests.stack import ROOT
from tools.scaffold.domain_names import MAX_DOMAIN_LENGTH, domain_names
from tools.scaffold.errors import ScaffoldError
from tools.scaffold.operation_names import MAX_NAME_LENGTH, operation_names

CHECKS = (["ruff", "format", "--check", "."], ["ruff", "check", "."], ["mypy"], ["schema", "--check"])
TESTS_OVER_ALL_OPERATIONS = (
    "tests/docs/test_site.py",
    "tests/docs/test_code_blocks.py::test_every_code_block_has_a_test_or_a_reason",
    "tests/docs/test_facts.py",
    "tests/chaos/test_deaths.py::test_each_kind_has_crash_points_in_its_steps_and_undos",
    "tests/chaos/test_invariants.py",
    "tests/schema/test_errors.py",
    "tests/security/test_tenants.py::test_foreign_deleted_and_random_ids_get_the_same_response[dev_stack]",
    "tests/end_to_end/test_contract_nodes.py::test_finds_every_kind_of_node_by_its_id[dev_stack]",
    "tests/scaffold/test_scaffold.py::test_refuses_an_invalid_operation_name_in_one_sentence",
)
"""Tests that iterate over all kinds of operations, all types, fields, arguments and ids of the schema, or all pages."""
TESTS_OVER_ALL_DOMAINS = (
    "tests/activities/test_migrations.py",
    "tests/docker/test_compose.py",
    "tests/docker/test_privileges.py",
    "tests/docs/test_architecture.py",
    "tests/docs/test_configuration.py",
    "tests/docs/test_facts.py",
    "tests/scaffold/test_scaffold.py::test_refuses_an_invalid_domain_name_in_one_sentence",
)
"""Tests that iterate over all domains, task queues, services or settings."""
HISTORY_TESTS = "archive_tenant or is_recorded or is_gone"
"""The tests of the recorded history, and the test that every kind of operation has one."""
PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")


@pytest.fixture
def tree(tmp_path: Path, mypy_cache: Path) -> Path:
    """A copy of the project."""
    return copy_project(tmp_path / "tree", mypy_cache=mypy_cache)


def generate(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.scaffold", *arguments]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=300)


def check(tree: Path) -> None:
    """Run what ``make check`` runs."""
    for command in CHECKS:
        run_in(tree, sys.executable, "-m", *command)
    run_in(tree, str(Path(sys.executable).parent / "lint-imports"))


@pytest.mark.parametrize(
    ("name", "domain", "reason"),
    [
        (
            "archive",
            "tenants",
            "archive is not a valid name: use verb, underscore and noun, as in archive_tenant.",
        ),
        ("archiveTenant", "tenants", "archiveTenant is not a valid name: "),
        ("archive-tenant", "tenants", "archive-tenant is not a valid name: "),
        ("2fast_tenant", "tenants", "2fast_tenant is not a valid name: "),
        ("_archive_tenant", "tenants", "_archive_tenant is not a valid name: "),
        ("../archive_tenant", "tenants", "../archive_tenant is not a valid name: "),
        ("", "tenants", "An empty text is not a valid name: "),
        (
            f"archive_{'x' * MAX_NAME_LENGTH}",
            "tenants",
            f"archive_{'x' * MAX_NAME_LENGTH} is too long: a name has at most {MAX_NAME_LENGTH} characters.",
        ),
        ("undo_switch", "tenants", "undo_switch is not a valid name: it must not begin with undo."),
        ("import_tenant", "tenants", "import_tenant is not a valid name: it must not begin with import."),
        ("switch_tenant", "tenants", "switch_tenant is in use: workflows/switch_tenant.py exists."),
        ("create_upload", "files", "create_upload is in use: CreateUploadInput is defined with another meaning."),
        ("check_access", "tenants", "check_access is in use: check_access is defined with another meaning."),
        (
            "archive_tenant",
            "tenant",
            "tenant is not a domain with idempotency records: choose auth",
        ),
        ("archive_tenant", "notifications", "notifications is not a domain with idempotency records: "),
        ("archive_tenant", "../files", "../files is not a domain with idempotency records: "),
        ("archive_tenant", "", "An empty text is not a domain with idempotency records: "),
    ],
)
def test_refuses_an_invalid_operation_name_in_one_sentence(name: str, domain: str, reason: str) -> None:
    with pytest.raises(ScaffoldError) as refused:
        operation_names(ROOT, name, domain)
    assert str(refused.value).startswith(reason)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "An empty text is not a valid name: use one word of small letters, as in billing."),
        ("Billing", "Billing is not a valid name: "),
        ("user_groups", "user_groups is not a valid name: "),
        ("../billing", "../billing is not a valid name: "),
        ("x" * (MAX_DOMAIN_LENGTH + 1), f"{'x' * (MAX_DOMAIN_LENGTH + 1)} is too long: a name has at most "),
        ("import", "import is not a valid name: it has another meaning."),
        ("all", "all is not a valid name: it has another meaning."),
        ("files", "files is in use: activities/files exists."),
        ("http", "http is in use: activities/http.py exists."),
        ("operations", "operations is in use: activities/operations exists."),
        ("domain", "domain is in use: Domain is defined with another meaning."),
        ("dashboards", "dashboards is in use: dashboards is defined with another meaning."),
        ("public", "public is in use: public_url is defined with another meaning."),
        ("secret", "secret is in use: secret_key is defined with another meaning."),
    ],
)
def test_refuses_an_invalid_domain_name_in_one_sentence(name: str, reason: str) -> None:
    with pytest.raises(ScaffoldError) as refused:
        domain_names(ROOT, name)
    assert str(refused.value).startswith(reason)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("arguments", [(), ("operation", "archive_tenant"), ("domain",), ("table", "billing")])
def test_prints_usage_for_wrong_arguments(arguments: tuple[str, ...]) -> None:
    done = generate(ROOT, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "make operation NAME=" in done.stderr
    assert "make domain NAME=" in done.stderr


@pytest.mark.parametrize(
    ("path", "old", "new", "missing"),
    [
        ("worker/registry.py", "WORKFLOWS", "SAGAS", "WORKFLOWS"),
        ("contracts/operations.py", "class OperationKind", "class Kind", "class OperationKind"),
        ("resolvers/operations/retry.py", "async def retry(", "async def again(", "match in retry"),
        ("schema/mutation.py", "class Mutation:", "class Deeds:", "class Mutation"),
    ],
)
def test_writes_nothing_when_a_definition_to_extend_is_missing(
    tree: Path, path: str, old: str, new: str, missing: str
) -> None:
    (tree / path).write_text((tree / path).read_text().replace(old, new))
    before = read_files(tree)
    done = generate(tree, "operation", "archive_tenant", "tenants")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{path} has no {missing}, but the generated code extends it.\n"
    assert read_files(tree) == before


@pytest.mark.parametrize("arguments", [("operation", "archive_tenant", "tenants"), ("domain", "billing")])
def test_restores_every_file_when_the_schema_cannot_be_built(tree: Path, arguments: tuple[str, ...]) -> None:
    (tree / "schema/scalars.py").write_text("raise SystemExit('no scalars')\n")
    before = read_files(tree)
    done = generate(tree, *arguments)
    assert done.returncode == 1
    assert done.stderr == "Nothing is written, because python -m schema fails:\nno scalars\n"
    assert read_files(tree) == before
    assert not (tree / "activities" / "billing").exists()


@pytest.mark.timeout(900)
def test_operations_of_two_domains_pass_every_check_and_their_tests(tree: Path) -> None:
    long = f"reconsider_token_{'n' * (MAX_NAME_LENGTH - len('reconsider_token_'))}"
    for name, domain in (("archive_tenant", "tenants"), (long, "files")):
        done = generate(tree, "operation", name, domain)
        assert done.returncode == 0, done.stderr
    again = generate(tree, "operation", "archive_tenant", "tenants")
    assert (again.returncode, again.stderr) == (
        1,
        "archive_tenant is in use: workflows/archive_tenant.py exists.\n",
    )

    assert "archiveTenant(input: ArchiveTenantInput!): ArchiveTenantPayload!" in (tree / "schema.graphql").read_text()
    check(tree)
    of_the_second = f"tests/workflows/test_{long}.py::test_repeats_the_step_without_a_second_effect"
    of_the_first = ("tests/workflows/test_archive_tenant.py", "tests/end_to_end/test_archive_tenant.py")
    output = run_in(tree, *PYTEST, of_the_second, *of_the_first)
    run_in(tree, sys.executable, "-m", "tests.histories.record", "archive_tenant")
    output += run_in(tree, *PYTEST, "tests/histories", "tests/workflows/test_repair_operation.py", "-k", HISTORY_TESTS)
    assert output.count(" passed") == 2
    assert "skipped" not in output


@pytest.mark.timeout(900)
def test_a_domain_and_an_operation_in_it_pass_every_check_and_their_tests(tree: Path) -> None:
    for arguments in (("domain", "billing"), ("operation", "create_invoice", "billing")):
        done = generate(tree, *arguments)
        assert done.returncode == 0, done.stderr
    again = generate(tree, "domain", "billing")
    assert (again.returncode, again.stderr) == (1, "billing is in use: activities/billing exists.\n")

    check(tree)
    of_the_domain = ("tests/activities/test_billing.py", "tests/resolvers/clients/test_billing.py")
    of_the_operation = ("tests/workflows/test_create_invoice.py", "tests/end_to_end/test_create_invoice.py")
    output = run_in(tree, *PYTEST, *of_the_domain, *of_the_operation)
    assert output.count(" passed") == 1
    assert "skipped" not in output


@pytest.mark.timeout(900)
def test_a_new_operation_passes_the_tests_over_all_operations_and_types(tree: Path) -> None:
    done = generate(tree, "operation", "archive_tenant", "tenants")
    assert done.returncode == 0, done.stderr
    assert " passed" in run_in(tree, *PYTEST, *TESTS_OVER_ALL_OPERATIONS)


@pytest.mark.timeout(900)
def test_a_new_domain_passes_check_and_the_tests_over_all_domains(tree: Path) -> None:
    done = generate(tree, "domain", "billing")
    assert done.returncode == 0, done.stderr
    check(tree)
    assert " passed" in run_in(tree, *PYTEST, *TESTS_OVER_ALL_DOMAINS)


@pytest.mark.timeout(600)
def test_the_example_page_builds_unchanged_with_a_new_operation(tree: Path) -> None:
    done = generate(tree, "operation", "archive_tenant", "tenants")
    assert done.returncode == 0, done.stderr
    web = tree / "examples" / "web"
    (web / "node_modules").symlink_to(installed_project(ROOT / "examples" / "web") / "node_modules")
    assert "TENANT_ARCHIVE" in (tree / "schema.graphql").read_text()
    run_in(web, str(shutil.which("npm")), "run", "build")

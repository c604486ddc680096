"""Logs tell what went wrong and where, and nothing that a variable held."""

import subprocess
import sys

import pytest

PROGRAM = """
import structlog
from {package}.logs import configure_logs

def fail(password):
    raise ValueError("the fact")

configure_logs()
try:
    fail("a-secret" + "-word")
except ValueError as error:
    structlog.get_logger().error("trouble", exc_info=error)
"""


@pytest.mark.parametrize("package", ["worker", "gateway"])
def test_a_traceback_shows_no_variables(package: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(package=package)], capture_output=True, text=True)

    assert "the fact" in done.stderr
    assert '"name": "fail"' in done.stderr
    assert "a-secret-word" not in done.stderr

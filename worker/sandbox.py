"""The sandbox that keeps workflows deterministic, and the modules that pass through it."""

from __future__ import annotations

from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions


def workflow_runner() -> SandboxedWorkflowRunner:
    """Return the sandbox. It shares the listed modules with the process, so that their classes are the same in both."""
    return SandboxedWorkflowRunner(
        restrictions=SandboxRestrictions.default.with_passthrough_modules(
            "contracts", "activities", "pydantic", "pydantic_core", "annotated_types", "joserfc", "cryptography"
        )
    )

"""The critical modules, and the tests that guard each group of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """Modules that are mutated, and the tests that must notice it. ``share``: the part of the sample, 0 to 1."""

    name: str
    modules: tuple[str, ...]
    tests: tuple[str, ...]
    share: float


TARGETS = (
    Target(
        "access",
        (
            "resolvers/operations/access.py",
            "gateway/sessions/session_monitor.py",
            "resolvers/sign_in_throttle.py",
        ),
        (
            "tests/resolvers/operations/test_access.py",
            "tests/gateway/sessions",
            "tests/resolvers/test_sign_in_throttle.py",
        ),
        0.2,
    ),
    Target(
        "sagas",
        ("workflows/operation.py", "workflows/compensations.py", "workflows/mfa.py", "workflows/switch_tenant.py"),
        ("tests/workflows/test_switch_tenant.py", "tests/workflows/test_log_in.py"),
        0.2,
    ),
    Target(
        "following",
        (
            "resolvers/following/watcher.py",
            "resolvers/following/newest_state.py",
            "resolvers/following/long_poll_quota.py",
            "resolvers/following/subscription_state.py",
        ),
        ("tests/resolvers/following",),
        0.2,
    ),
    Target(
        "limits",
        (
            "infrastructure/limits/rate_limit.py",
            "infrastructure/limits/shared_rate_limit.py",
            "infrastructure/limits/quota.py",
            "infrastructure/limits/distributed_quota.py",
            "infrastructure/limits/fair_semaphore.py",
        ),
        ("tests/infrastructure/limits",),
        0.2,
    ),
    Target("codec", ("infrastructure/temporal/codec.py",), ("tests/infrastructure/temporal",), 0.05),
    Target(
        "repair",
        ("worker/repair_scheduler.py", "workflows/repair_operation.py", "activities/operations/record_repair.py"),
        (
            "tests/worker/test_repair_scheduler.py",
            "tests/workflows/test_repair_operation.py",
            "tests/resolvers/operations/test_record_repair.py",
        ),
        0.15,
    ),
)

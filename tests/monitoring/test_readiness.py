"""/readyz: before the dependencies are checked, while one is unavailable, and while the process stops."""

from __future__ import annotations

import httpx

from infrastructure.observability.monitoring import Check, Monitoring, serve_monitoring


async def request_readiness(monitoring: Monitoring) -> tuple[int, str]:
    async with (
        serve_monitoring(monitoring, host="127.0.0.1", port=0) as url,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        answer = await http.get(f"{url}/readyz")
    return answer.status_code, answer.json()["status"]


def monitoring_with(checks: dict[str, Check], *, is_stopping: bool = False) -> Monitoring:
    monitoring = Monitoring()
    monitoring.add_checks(checks)
    monitoring.add_stop_signal(lambda: is_stopping)
    return monitoring


async def succeed() -> bool:
    return True


async def fail() -> bool:
    raise ConnectionError


async def test_process_is_not_ready_before_its_critical_checks_exist() -> None:
    assert await request_readiness(Monitoring()) == (503, "down")
    assert await request_readiness(monitoring_with({"redis": succeed})) == (503, "down")


async def test_unavailable_dependency_is_tolerated_unless_it_is_critical() -> None:
    assert await request_readiness(monitoring_with({"temporal": succeed, "redis": succeed})) == (200, "ok")
    assert await request_readiness(monitoring_with({"temporal": succeed, "redis": fail})) == (200, "degraded")
    assert await request_readiness(monitoring_with({"temporal": fail, "redis": succeed})) == (503, "down")


async def test_stopping_process_is_not_ready() -> None:
    assert await request_readiness(monitoring_with({"temporal": succeed}, is_stopping=True)) == (503, "stopping")

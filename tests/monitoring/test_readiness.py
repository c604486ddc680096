"""What /readyz says while parts are not opened yet, are away, or the process is to stop."""

from __future__ import annotations

import httpx

from infrastructure.observability.monitoring import Check, Monitoring, serve_monitoring


async def said(monitoring: Monitoring) -> tuple[int, str]:
    async with (
        serve_monitoring(monitoring, host="127.0.0.1", port=0) as url,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        answer = await http.get(f"{url}/readyz")
    return answer.status_code, answer.json()["status"]


def monitoring(checks: dict[str, Check], *, is_stopping: bool = False) -> Monitoring:
    monitoring = Monitoring()
    monitoring.add_checks(checks)
    monitoring.add_stop_signal(lambda: is_stopping)
    return monitoring


async def there() -> bool:
    return True


async def away() -> bool:
    raise ConnectionError


async def test_process_is_not_ready_before_its_critical_checks_exist() -> None:
    assert await said(Monitoring()) == (503, "down")
    assert await said(monitoring({"redis": there})) == (503, "down")


async def test_unavailable_dependency_is_tolerated_unless_it_is_critical() -> None:
    assert await said(monitoring({"temporal": there, "redis": there})) == (200, "ok")
    assert await said(monitoring({"temporal": there, "redis": away})) == (200, "degraded")
    assert await said(monitoring({"temporal": away, "redis": there})) == (503, "down")


async def test_stopping_process_is_not_ready() -> None:
    assert await said(monitoring({"temporal": there}, is_stopping=True)) == (503, "stopping")

"""Hostile documents cost little CPU time and no lasting memory.

``FUZZ_DOCUMENTS`` is the number of documents; the default is 120.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import resource
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings

from gateway.app import create_app
from gateway.dependencies import Dependencies
from infrastructure.caching.cache import MemoryCache
from tests.fuzz.hostile import requests
from tests.gateway.fakes import TOKEN, FakeServices, settings

DOCUMENTS = int(os.environ.get("FUZZ_DOCUMENTS", "120"))
MAX_CPU_SECONDS = 0.25
MAX_GROWTH_BYTES = 20 * 1024 * 1024


def test_hostile_documents_cost_little_cpu_time_and_memory(
    temporal_address: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    costs: list[float] = []
    with asyncio.Runner() as runner:
        opened = _client(temporal_address, tmp_path)
        client = runner.run(opened.__aenter__())

        def execute(document: str, variables: object) -> float:
            """Execute the document and return the CPU time in seconds."""
            begun = time.process_time()
            body = {"query": document, "variables": variables}
            response = runner.run(client.post("/graphql", json=body, headers={"authorization": f"Bearer {TOKEN}"}))
            seconds = time.process_time() - begun
            assert response.status_code < 500, document
            assert "INTERNAL" not in response.text, document
            return seconds

        @hypothesis_settings(
            max_examples=DOCUMENTS,
            deadline=None,
            database=None,
            derandomize="FUZZ_DOCUMENTS" not in os.environ,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(request=requests())
        def send(request: tuple[str, object]) -> None:
            document, variables = request
            if len(costs) == 30:  # imports and caches are filled by now
                memory.append(_memory())
            seconds = execute(document, variables)
            if seconds > MAX_CPU_SECONDS:  # the machine may have been busy
                seconds = min(seconds, *(execute(document + " " * n, variables) for n in (1, 2)))
            costs.append(seconds)
            assert seconds < MAX_CPU_SECONDS, document[:500]

        memory: list[int] = []
        try:
            send()
            growth = _memory() - memory[0]
        finally:
            runner.run(opened.__aexit__(None, None, None))
    record_property("slowest_milliseconds", round(max(costs) * 1000))
    record_property("grown_mebibytes", round(growth / 2**20, 1))
    assert growth < MAX_GROWTH_BYTES


@asynccontextmanager
async def _client(temporal_address: str, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Yield an HTTP client of a gateway in this process."""
    cache = MemoryCache()
    app = create_app(
        settings(temporal_address, data_dir=folder), Dependencies(services=FakeServices().transport, cache=cache)
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        yield client


def _memory() -> int:
    """Return the resident memory of the process in bytes, or its peak if the system does not report it.

    Memory that the allocator has freed but kept is returned to the system first.
    """
    gc.collect()
    with suppress(AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

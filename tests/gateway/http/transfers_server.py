"""Serves the streaming of uploads and downloads alone, over a storage, as a process whose memory can be looked at."""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path

from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from contracts.storage import open_storage
from contracts.transfers import TransferSigner
from gateway.http.transfer_rate import MinimumRate
from gateway.http.transfers import TransferLimits, transfer_routes

KEY = b"k" * 32


async def peak(_: Request) -> PlainTextResponse:
    """The most memory this process ever had, in bytes."""
    return PlainTextResponse(str(_peak_bytes()))


def _peak_bytes() -> int:
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts what the parent had before the start into ru_maxrss, but not into this.
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def main(storage: str, address: str) -> None:
    limits = TransferLimits(minimum_rate=MinimumRate(window_seconds=2.0))
    app = Starlette(routes=[*transfer_routes(open_storage(storage), TransferSigner(KEY), limits), Route("/peak", peak)])
    config = Config()
    config.bind = [address]
    asyncio.run(serve(app, config))  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])

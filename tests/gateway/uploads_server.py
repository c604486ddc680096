"""Serves the streaming of uploads and downloads alone, over a folder, as a process whose memory can be looked at."""

from __future__ import annotations

import asyncio
import resource
import sys

from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from contracts.storage import open_storage
from contracts.transfers import TransferSigner
from gateway.uploads import TransferLimits, upload_routes

KEY = b"k" * 32


async def peak(_: Request) -> PlainTextResponse:
    """The most memory this process ever had, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return PlainTextResponse(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit))


def main(folder: str, address: str) -> None:
    limits = TransferLimits(silence=2.0)
    app = Starlette(routes=[*upload_routes(open_storage(folder), TransferSigner(KEY), limits), Route("/peak", peak)])
    config = Config()
    config.bind = [address]
    asyncio.run(serve(app, config))


if __name__ == "__main__":
    main(*sys.argv[1:])

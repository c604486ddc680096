"""A server process of transfers with one storage, which reports its peak memory."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from contracts.transfer_grants import UploadGrant
from gateway.connection_registry import ConnectionRegistry
from gateway.server.main import serve
from gateway.transfers.dependencies import TransferDependencies
from gateway.transfers.limits import TransferLimits
from gateway.transfers.quota import DOWNLOADS
from gateway.transfers.rate import MinimumRate
from gateway.transfers.routes import transfer_routes
from infrastructure.limits.quota import LocalQuota
from infrastructure.storage import open_storage
from resolvers.clients.files import FilesClient
from tests.databases import create_sqlite_database
from tests.gateway.transfers.files_service import SIGNER, files_client, member, register


async def peak(_: Request) -> Response:
    """Return the peak memory of this process in bytes."""
    return PlainTextResponse(str(_peak_bytes()))


async def register_upload(request: Request) -> Response:
    """Register the upload of a grant with the files service."""
    await register(UploadGrant.model_validate_json(await request.body()))
    return Response()


def _peak_bytes() -> int:
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # On Linux ru_maxrss includes memory of the parent process before the start; VmHWM does not.
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def files_of(request: Request) -> FilesClient:
    """Return the client of the files service."""
    files: FilesClient = request.app.state.files
    return files


async def main(storage_url: str, folder: str, port: str) -> None:
    """Serve transfers with the storage until the process is killed."""
    database_url = await create_sqlite_database(Path(folder))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with files_client(database_url) as app.state.files:
            yield

    limits = TransferLimits(
        minimum_rate=MinimumRate(window_seconds=4.0), downloads=DOWNLOADS.model_copy(update={"url": 2})
    )
    dependencies = TransferDependencies(open_storage(storage_url), SIGNER, member, LocalQuota(), limits)
    transfers = transfer_routes(dependencies, files_of)
    app = Starlette(
        routes=[*transfers, Route("/peak", peak), Route("/announce", register_upload, methods=["POST"])],
        lifespan=lifespan,
    )
    await serve(app, drain=ConnectionRegistry().drain, host="127.0.0.1", port=int(port), stop=asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

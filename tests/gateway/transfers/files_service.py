"""The real files service as the gateway calls it, and uploads that it has registered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
from starlette.applications import Starlette
from starlette.requests import Request

from activities.files import models
from activities.files.endpoints import routes
from activities.files.service import FilesService
from contracts.auth import PERMISSIONS, Role
from contracts.base import utc_now
from contracts.callers import Caller
from contracts.tenants import SubscriptionTier
from contracts.transfer_grants import DownloadGrant, UploadGrant
from infrastructure.circuit_breaker import CircuitBreaker
from infrastructure.signing.secret_keys import SecretKeys
from infrastructure.signing.service_tokens import ServiceTokenSigner
from infrastructure.signing.transfer_tokens import TransferTokenSigner
from resolvers.clients.base import ServiceClient
from resolvers.clients.files import FilesClient
from worker.database import database

KEY = b"k" * 32
SIGNER = TransferTokenSigner(SecretKeys(KEY))


@asynccontextmanager
async def files_client(database_url: str) -> AsyncIterator[FilesClient]:
    """Run the service on a migrated database in this process; yield a client of it."""
    signer = ServiceTokenSigner("files", SecretKeys(KEY))
    transport = httpx.ASGITransport(Starlette(routes=routes(FilesService(SIGNER), signer)))
    async with database(database_url), httpx.AsyncClient(transport=transport) as http:
        yield FilesClient(ServiceClient("files", "http://files", http, signer, CircuitBreaker("files")))


async def register(grant: UploadGrant) -> None:
    """Record the upload of a grant as the service would; a repeated call changes nothing."""
    now = utc_now()
    await models.Upload.get_or_create(
        id=grant.upload_id,
        defaults={
            "tenant_id": grant.tenant_id,
            "user_id": grant.user_id,
            "name": "a.txt",
            "content_type": grant.content_type,
            "size": grant.size,
            "checksum": grant.checksum,
            "access_level": "PRIVATE",
            "tier": SubscriptionTier.ENTERPRISE.value,
            "expires_at": now + timedelta(hours=1),
            "reserved_until": now + timedelta(minutes=10),
        },
    )


async def member(_: Request, grant: UploadGrant | DownloadGrant) -> Caller:
    """Return the user of a grant as a member of the tenant.

    tests/security/test_stale_access.py tests whether the user is still a member.
    """
    return Caller(user_id=grant.user_id, tenant_id=grant.tenant_id, permissions=tuple(sorted(PERMISSIONS[Role.MEMBER])))

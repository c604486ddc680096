"""How much a tenant may store, by what it pays for."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from contracts.tenants import SubscriptionTier

MIB = 1024**2
GIB = 1024**3


@dataclass(frozen=True)
class Limit:
    """``file``: bytes of one file; ``tenant``: bytes of all its files."""

    file: int
    tenant: int


LIMITS = MappingProxyType(
    {
        SubscriptionTier.FREE: Limit(file=10 * MIB, tenant=100 * MIB),
        SubscriptionTier.PROFESSIONAL: Limit(file=GIB, tenant=100 * GIB),
        SubscriptionTier.ENTERPRISE: Limit(file=5 * GIB, tenant=1024 * GIB),
    }
)
"""5 GiB is also the most that S3 takes in one PUT and copies in one request."""

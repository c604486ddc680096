"""Storage quotas of tenants, by subscription tier."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from contracts.tenants import SubscriptionTier

MIB = 1024**2
GIB = 1024**3


@dataclass(frozen=True)
class StorageLimits:
    """Limits in bytes: of one file, and of all files of a tenant."""

    file: int
    tenant: int


LIMITS = MappingProxyType(
    {
        SubscriptionTier.FREE: StorageLimits(file=10 * MIB, tenant=100 * MIB),
        SubscriptionTier.PROFESSIONAL: StorageLimits(file=GIB, tenant=100 * GIB),
        SubscriptionTier.ENTERPRISE: StorageLimits(file=5 * GIB, tenant=1024 * GIB),
    }
)
"""Storage limits by subscription tier. 5 GiB is also the maximum of one PUT or copy request of S3."""

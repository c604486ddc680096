"""Reservations of a tenant's storage for the uploads that its users have announced."""

from __future__ import annotations

from datetime import datetime, timedelta

from tortoise.expressions import Q
from tortoise.functions import Count, Sum
from tortoise.queryset import QuerySet

from activities.files import models
from activities.files.quotas import LIMITS
from activities.files.validation import share_exceeded, storage_exceeded
from contracts.errors import QuotaExhausted
from contracts.tenants import SubscriptionTier

RESERVATION_LIFETIME = timedelta(minutes=10)
"""Validity of the reservation of an upload whose bytes have not arrived. The gateway renews it while they arrive.
Bytes that have arrived stay reserved until a file is created from them or the cleanup removes them.
"""
MAX_OPEN_UPLOADS = 100
"""Maximum number of concurrent reservations of one user in one tenant."""
USER_SHARE = 0.25
"""Maximum part of the tenant's free storage for all reservations of one user; the first may exceed this part."""
_RETRY_AFTER_SECONDS = 60.0


def is_reserved(now: datetime) -> Q:
    """Return the condition of uploads with a valid reservation."""
    return Q(file_id=None) & (Q(received_at__isnull=False) | Q(reserved_until__gt=now))


async def check_free_storage(
    tenant_id: str, user_id: str, tier: SubscriptionTier, size: int, now: datetime, *, except_id: str = ""
) -> None:
    """Check, within a transaction, that the user may reserve ``size`` more bytes of the tenant's storage.

    The tenant's row is locked until the transaction ends, so that two checks never count the same free storage. The
    upload ``except_id`` is not counted.

    Raises:
        StorageQuotaExceeded: the tenant has not enough free storage, or the user's reservations exceed their share.
        QuotaExhausted: the user has too many open uploads.
    """
    await models.Usage.bulk_create([models.Usage(tenant_id=tenant_id)], ignore_conflicts=True)
    usage = await models.Usage.select_for_update().get(tenant_id=tenant_id)
    reserving = models.Upload.filter(is_reserved(now), tenant_id=tenant_id).exclude(id=except_id)
    _, reserved = await _count_and_sum(reserving)
    own_count, own = await _count_and_sum(reserving.filter(user_id=user_id))
    free = LIMITS[tier].tenant - usage.bytes
    if reserved + size > free:
        raise storage_exceeded()
    if own_count >= MAX_OPEN_UPLOADS:
        raise QuotaExhausted(
            "Too many uploads are open; complete some of them first.", retry_after=_RETRY_AFTER_SECONDS
        )
    if own_count and own + size > free * USER_SHARE:
        raise share_exceeded()


async def _count_and_sum(uploads: QuerySet[models.Upload]) -> tuple[int, int]:
    [[count, total]] = await uploads.annotate(count=Count("id"), total=Sum("size")).values_list("count", "total")
    return int(count), int(total or 0)

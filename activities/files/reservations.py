"""Reservations: the room that a tenant keeps free for the uploads that its users have announced."""

from __future__ import annotations

from datetime import datetime, timedelta

from tortoise.expressions import Q
from tortoise.functions import Count, Sum
from tortoise.queryset import QuerySet

from activities.files import models
from activities.files.quotas import LIMITS
from activities.files.validation import no_room, share_used_up
from contracts.errors import QuotaExhausted
from contracts.tenants import SubscriptionTier

RESERVATION_LIFETIME = timedelta(minutes=10)
"""How long room is kept for an upload without its bytes. While they arrive the gateway renews the reservation, and
bytes that have arrived keep their room until a file is made of them or the sweeper removes them.
"""
MAX_OPEN_UPLOADS = 100
"""Reservations of one user in one tenant at a time."""
USER_SHARE = 0.25
"""Part of the tenant's free room that one user's reservations may take together. The first one may take all of it."""
_RETRY_SECONDS = 60.0


def is_held(now: datetime) -> Q:
    """Return the condition of uploads for which room is kept."""
    return Q(file_id=None) & (Q(received_at__isnull=False) | Q(reserved_until__gt=now))


async def check_room(
    tenant_id: str, user_id: str, tier: SubscriptionTier, size: int, now: datetime, *, except_id: str = ""
) -> None:
    """Check, in a transaction, that the tenant and the user may reserve ``size`` bytes more.

    The tenant's row is locked until the transaction ends: on PostgreSQL, too, two checks never see the same free room.

    Raises:
        InvalidInput: the tenant has no room, or the user's reservations have taken their share of it.
        QuotaExhausted: the user has too many open uploads.
    """
    await models.Usage.bulk_create([models.Usage(tenant_id=tenant_id)], ignore_conflicts=True)
    usage = await models.Usage.select_for_update().get(tenant_id=tenant_id)
    held = models.Upload.filter(is_held(now), tenant_id=tenant_id).exclude(id=except_id)
    _, reserved = await _count_and_sum(held)
    own_count, own = await _count_and_sum(held.filter(user_id=user_id))
    free = LIMITS[tier].tenant - usage.bytes
    if reserved + size > free:
        raise no_room()
    if own_count >= MAX_OPEN_UPLOADS:
        raise QuotaExhausted("Too many uploads are open; complete some of them first.", retry_after=_RETRY_SECONDS)
    if own_count and own + size > free * USER_SHARE:
        raise share_used_up()


async def _count_and_sum(uploads: QuerySet[models.Upload]) -> tuple[int, int]:
    [[count, total]] = await uploads.annotate(count=Count("id"), total=Sum("size")).values_list("count", "total")
    return int(count), int(total or 0)

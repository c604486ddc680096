"""The limits of transfers."""

from __future__ import annotations

from contracts.base import Contract
from gateway.transfers.quota import DOWNLOADS, UPLOADS, TransferShares
from gateway.transfers.rate import MinimumRate


class TransferLimits(Contract):
    """Bounds of one transfer and of all.

    ``uploads`` and ``downloads``: how many at a time, and each client's share. ``minimum_rate``: below which a client
    is too slow. ``total_seconds``: from the first byte to the last. ``storage_seconds``: within which the storage has
    to take or give each part; it may take longer to complete a large object. ``reserve_seconds``: between two renewals
    of an upload's reservation, a third of its lifetime.
    """

    uploads: TransferShares = UPLOADS
    downloads: TransferShares = DOWNLOADS
    minimum_rate: MinimumRate = MinimumRate()
    total_seconds: float = 3600.0
    storage_seconds: float = 8.0
    reserve_seconds: float = 200.0

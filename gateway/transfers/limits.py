"""Limits of transfers: simultaneous uploads and downloads, minimum rate, and timeouts."""

from __future__ import annotations

from contracts.base import Contract
from gateway.transfers.quota import DOWNLOADS, UPLOADS, TransferShares
from gateway.transfers.rate import MinimumRate


class TransferLimits(Contract):
    """Limits of one transfer and of all transfers.

    Attributes:
        uploads: numbers of simultaneous uploads.
        downloads: numbers of simultaneous downloads.
        minimum_rate: the rate below which a transfer is ended.
        total_timeout_seconds: time from the first byte to the last.
        storage_timeout_seconds: time for the storage to take or return one part. Completing a large object may take
            longer.
        reservation_interval_seconds: interval between two renewals of an upload's reservation of space, which is a
            third of the reservation's lifetime.
    """

    uploads: TransferShares = UPLOADS
    downloads: TransferShares = DOWNLOADS
    minimum_rate: MinimumRate = MinimumRate()
    total_timeout_seconds: float = 3600.0
    storage_timeout_seconds: float = 8.0
    reservation_interval_seconds: float = 200.0

"""The minimum rate of a transfer, below which a client is too slow and its transfer is ended."""

from __future__ import annotations

from contracts.base import Contract

_MAX_CARRIED_FRACTION = 0.25
"""Surplus bytes of a window that count for the next window, as a fraction of the required bytes of a window.

Buffers between client and gateway pass bytes on in bursts.
"""


class MinimumRate(Contract):
    """A rate in ``bytes_per_second``, averaged over windows of ``window_seconds`` of waiting for the client.

    A slower transfer is ended, because it would use a share of the transfer quota for too long.
    """

    bytes_per_second: int = 16 * 1024
    window_seconds: float = 30.0

    @property
    def window_bytes(self) -> float:
        """The bytes that must be transferred within one window."""
        return self.bytes_per_second * self.window_seconds


class TransferRate:
    """Measures the rate of one transfer. Time spent on waiting for the client counts, time of the storage does not."""

    def __init__(self, minimum: MinimumRate) -> None:
        self._minimum = minimum
        self._waited_seconds = 0.0
        self._bytes = 0.0

    def timeout(self) -> float:
        """Return the seconds to wait for the client's next bytes.

        The wait ends with the present window, or with the next one if the present one has enough bytes already.
        """
        windows = 2 if self._bytes >= self._minimum.window_bytes else 1
        return max(0.0, windows * self._minimum.window_seconds - self._waited_seconds)

    def add(self, waited_seconds: float, size: int) -> None:
        """Record that the client has sent or read ``size`` bytes after ``waited_seconds``.

        Raises:
            TimeoutError: a window has ended with too few bytes; the transfer is too slow.
        """
        self._waited_seconds += waited_seconds
        if self._waited_seconds >= self._minimum.window_seconds:
            if self._bytes + size < self._minimum.window_bytes:
                raise TimeoutError
            surplus = max(0.0, self._bytes - self._minimum.window_bytes)
            self._waited_seconds %= self._minimum.window_seconds
            self._bytes = min(surplus, _MAX_CARRIED_FRACTION * self._minimum.window_bytes)
        self._bytes += size

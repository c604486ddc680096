"""The minimum rate at which a client has to send or to read the bytes of a transfer."""

from __future__ import annotations

from contracts.base import Contract

_CARRIED_PART = 0.25
"""Of a window's bytes: how many of those beyond it count for the next one, because buffers pass bytes on in bursts."""


class MinimumRate(Contract):
    """``bytes_per_second``, averaged over ``window_seconds`` of waiting for the client.

    A slower transfer is ended: it would hold a share of the transfer quota for too long.
    """

    bytes_per_second: int = 16 * 1024
    window_seconds: float = 30.0

    @property
    def window_bytes(self) -> float:
        """Bytes that have to pass within one window."""
        return self.bytes_per_second * self.window_seconds


class TransferRate:
    """Measures one transfer. Only the time spent on waiting for the client counts, not that of the storage."""

    def __init__(self, minimum: MinimumRate) -> None:
        self._minimum = minimum
        self._waited_seconds = 0.0
        self._bytes = 0.0

    def timeout(self) -> float:
        """Seconds for which to wait for the client's next bytes at most: until the end of this window, or of the next
        one if enough bytes have passed in this one.
        """
        windows = 2 if self._bytes >= self._minimum.window_bytes else 1
        return max(0.0, windows * self._minimum.window_seconds - self._waited_seconds)

    def add(self, waited_seconds: float, size: int) -> None:
        """Record that the client sent or took ``size`` bytes after ``waited_seconds``.

        Raises:
            TimeoutError: a window has ended with too few bytes.
        """
        self._waited_seconds += waited_seconds
        if self._waited_seconds >= self._minimum.window_seconds:
            if self._bytes + size < self._minimum.window_bytes:
                raise TimeoutError
            surplus = max(0.0, self._bytes - self._minimum.window_bytes)
            self._waited_seconds %= self._minimum.window_seconds
            self._bytes = min(surplus, _CARRIED_PART * self._minimum.window_bytes)
        self._bytes += size

"""The roles that decide what a session may do. They are owned by another service."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from contracts.auth import Role


class Memberships(Protocol):
    async def roles(self, members: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], Role]:
        """Return the current roles by user id and tenant id, without those that are no members."""

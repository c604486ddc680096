"""Interface to the roles of members, which the tenants service owns and which decide what a session may do."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from contracts.auth import Role


class Memberships(Protocol):
    """Source of the current roles of users in tenants."""

    async def roles(self, members: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], Role]:
        """Return the current role of each pair of user id and tenant id; pairs without a membership are left out."""

"""The caller on whose behalf the gateway calls a service."""

from __future__ import annotations

from contracts.base import Contract


class Caller(Contract):
    """The caller on whose behalf a service is called. ``user_id`` is None before the user has signed in.

    ``client`` and ``account`` are keyed digests of the client's network and of the requested account, for fair shares
    and logs. They grant no access.
    """

    user_id: str | None = None
    tenant_id: str | None = None
    permissions: tuple[str, ...] = ()
    request_id: str = ""
    client: str = ""
    account: str = ""

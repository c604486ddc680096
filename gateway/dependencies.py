"""What the caller of ``create_app`` may provide instead of what the settings name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
from temporalio.client import Interceptor
from temporalio.runtime import Runtime

from infrastructure.caching.cache import Cache
from infrastructure.change_notifications import ChangeNotifier
from infrastructure.observability.monitoring import Monitoring

if TYPE_CHECKING:
    from infrastructure.observability.spans import Spans


@dataclass(frozen=True)
class Dependencies:
    """Attributes:

    services: the transport for calls of the services; None: the network.
    cache: a cache that others share, and that stays open; None: the one that the settings name.
    change_notifier: the change notifications of services in this process.
    interceptors: for the calls of Temporal.
    monitoring: has the registry of metrics and the checks of readiness.
    runtime: the runtime of Temporal's SDK.
    spans: records traces.
    """

    services: httpx.AsyncBaseTransport | None = None
    cache: Cache | None = None
    change_notifier: ChangeNotifier | None = None
    interceptors: Sequence[Interceptor] = ()
    monitoring: Monitoring = field(default_factory=Monitoring)
    runtime: Runtime | None = None
    spans: Spans | None = None

"""Objects that the caller of ``create_app`` may provide, which then replace those that the settings describe."""

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
    """Dependencies of the web process that tests and ``python -m gateway`` inject.

    Attributes:
        services: the transport for calls of the services; None: the network.
        cache: the shared cache, which stays open when the application ends; None: the cache of the settings.
        change_notifier: the change notifier that services in this process use; None: the one of the settings.
        interceptors: client interceptors for calls of Temporal.
        monitoring: the registry of metrics and the readiness checks.
        runtime: the runtime of Temporal's SDK; None: the SDK's default.
        spans: records traces; None: no tracing.
    """

    services: httpx.AsyncBaseTransport | None = None
    cache: Cache | None = None
    change_notifier: ChangeNotifier | None = None
    interceptors: Sequence[Interceptor] = ()
    monitoring: Monitoring = field(default_factory=Monitoring)
    runtime: Runtime | None = None
    spans: Spans | None = None

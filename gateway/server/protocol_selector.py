"""Select the protocol of a connection: HTTP/1.1, or HTTP/2 by TLS (ALPN) or by its connection preface."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hypercorn.config import Config
from hypercorn.events import Event, RawData, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H2ProtocolAssumedError
from hypercorn.typing import AppWrapper, ConnectionState, TaskGroup, WorkerContext

from gateway.server.http1 import Http1
from gateway.server.http2 import Http2


class ProtocolSelector(ProtocolWrapper):
    """Passes the events of a connection to its protocol, and selects HTTP/2 if the client sends its preface.

    An upgrade from HTTP/1.1 to HTTP/2 is not supported, because a proxy would not see the requests after it.

    Args:
        after_data: called after received bytes have been handled.
    """

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        task_group: TaskGroup,
        state: ConnectionState,
        ssl: bool,
        client: tuple[str, int] | None,
        server: tuple[str, int] | None,
        send: Callable[[Event], Awaitable[None]],
        alpn_protocol: str | None = None,
        after_data: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(app, config, context, task_group, state, ssl, client, server, send, alpn_protocol)
        self._after_data = after_data
        protocol_class = Http2 if alpn_protocol == "h2" else Http1
        self.protocol: Http1 | Http2 = protocol_class(
            app, config, context, task_group, state, ssl, client, server, send
        )

    @property
    def has_partial_head(self) -> bool:
        """Whether the head of a request has begun and is not complete."""
        return self.protocol.has_partial_head

    async def handle(self, event: Event) -> None:
        """Handle an event of the connection, and change to HTTP/2 if it contains the preface of HTTP/2."""
        try:
            await self.protocol.handle(event)
        except H2ProtocolAssumedError as assumed:
            self.protocol = Http2(
                self.app,
                self.config,
                self.context,
                self.task_group,
                self.state,
                self.ssl,
                self.client,
                self.server,
                self.send,
            )
            await self.protocol.initiate()
            # This starts the idle timer: the preface counted as a request, and no other request may follow.
            await self.send(Updated(idle=True))
            await self.protocol.handle(RawData(assumed.data))
        if isinstance(event, RawData):
            self._after_data()

"""Which protocol a connection uses: HTTP/1.1, or HTTP/2 by TLS's choice or by its preface."""

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
    """HTTP/2 is never reached by an upgrade: a proxy that passed one on would not see the requests that follow."""

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
        kind = Http2 if alpn_protocol == "h2" else Http1
        self.protocol: Http1 | Http2 = kind(app, config, context, task_group, state, ssl, client, server, send)

    @property
    def has_partial_head(self) -> bool:
        """Whether the head of a request has begun and is not complete."""
        return self.protocol.has_partial_head

    async def handle(self, event: Event) -> None:
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
            await self.send(Updated(idle=True))  # the preface looked like a request, and none may follow
            await self.protocol.handle(RawData(assumed.data))
        if isinstance(event, RawData):
            self._after_data()

"""An SMTP server for tests: it stores the e-mails that it accepts, and can be told to respond with errors."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

ACCEPTED = "250 Taken"


@dataclass
class MailServer:
    """The state of a running mail server.

    ``emails``: the accepted e-mails; ``rcpt_responses`` and ``data_responses``: responses to the next RCPT and DATA
    commands instead of success.
    """

    port: int = 0
    emails: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)
    rcpt_responses: list[str] = field(default_factory=list)
    data_responses: list[str] = field(default_factory=list)
    dropped_acknowledgements: int = 0
    """Number of e-mails that the server will accept without a response: it closes the connection instead."""

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.commands.append("RCPT")
        if self.rcpt_responses:
            return self.rcpt_responses.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - likewise
        self.commands.append("DATA")
        if self.data_responses:
            return self.data_responses.pop(0)
        assert isinstance(envelope.content, bytes)
        email = message_from_bytes(envelope.content, policy=default)
        assert isinstance(email, EmailMessage)
        self.emails.append(email)
        self.recipients.extend(envelope.rcpt_tos)
        if self.dropped_acknowledgements:
            self.dropped_acknowledgements -= 1
            assert server.transport is not None
            server.transport.close()
        return ACCEPTED

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, auth_data: Any
    ) -> AuthResult:
        assert isinstance(auth_data, LoginPassword)
        self.logins.append((auth_data.login, auth_data.password))
        return AuthResult(success=True)


@asynccontextmanager
async def running_mail_server(
    *, tls: ssl.SSLContext | None = None, implicit_tls: bool = False, smtputf8: bool = True
) -> AsyncIterator[MailServer]:
    """Run a mail server on a free port.

    Args:
        tls: Requires STARTTLS and a password.
        implicit_tls: Use ``tls`` from the beginning of a connection instead of STARTTLS.
        smtputf8: Whether the server accepts addresses that are not ASCII (RFC 6531).
    """
    state = MailServer()
    loop = asyncio.get_running_loop()

    def protocol() -> SMTP:
        return SMTP(
            state,
            hostname="mail.test",
            enable_SMTPUTF8=smtputf8,
            tls_context=None if implicit_tls else tls,
            authenticator=state.authenticate,
            auth_required=tls is not None and not implicit_tls,
            auth_require_tls=not implicit_tls,
            loop=loop,
        )

    async with _serve(protocol, tls if implicit_tls else None) as port:
        state.port = port
        yield state


@asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """Yield the port of a server that accepts connections and never responds."""
    async with _serve(asyncio.Protocol, None) as port:
        yield port


@asynccontextmanager
async def _serve(protocol: Callable[[], asyncio.BaseProtocol], tls: ssl.SSLContext | None) -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0, ssl=tls)
    async with server:
        port: int = server.sockets[0].getsockname()[1]
        yield port
        server.close()

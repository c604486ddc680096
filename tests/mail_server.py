"""A real mail server for tests, that keeps what it is given and has its moods."""

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

TAKEN = "250 Taken"


@dataclass
class MailServer:
    """``letters``: all it took. What it answers to each command is in ``says``, the next answer first."""

    port: int = 0
    letters: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)
    rcpt_says: list[str] = field(default_factory=list)
    data_says: list[str] = field(default_factory=list)
    drops_after_data: int = 0
    """How many times it takes a letter and then hangs up instead of saying so."""

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.commands.append("RCPT")
        if self.rcpt_says:
            return self.rcpt_says.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - likewise
        self.commands.append("DATA")
        if self.data_says:
            return self.data_says.pop(0)
        assert isinstance(envelope.content, bytes)
        letter = message_from_bytes(envelope.content, policy=default)
        assert isinstance(letter, EmailMessage)
        self.letters.append(letter)
        self.recipients.extend(envelope.rcpt_tos)
        if self.drops_after_data:
            self.drops_after_data -= 1
            assert server.transport is not None
            server.transport.close()
        return TAKEN

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, auth_data: Any
    ) -> AuthResult:
        assert isinstance(auth_data, LoginPassword)
        self.logins.append((auth_data.login, auth_data.password))
        return AuthResult(success=True)


@asynccontextmanager
async def running_mail_server(
    *, tls: ssl.SSLContext | None = None, from_the_start: bool = False, smtputf8: bool = True
) -> AsyncIterator[MailServer]:
    """On a free port. ``tls``: by STARTTLS, which it then insists on, with a password; or ``from_the_start``.

    ``smtputf8``: whether the server accepts addresses that are not ASCII (RFC 6531).
    """
    box = MailServer()
    loop = asyncio.get_running_loop()

    def conversation() -> SMTP:
        return SMTP(
            box,
            hostname="mail.test",
            enable_SMTPUTF8=smtputf8,
            tls_context=None if from_the_start else tls,
            authenticator=box.authenticate,
            auth_required=tls is not None and not from_the_start,
            auth_require_tls=not from_the_start,
            loop=loop,
        )

    async with _served(conversation, tls if from_the_start else None) as port:
        box.port = port
        yield box


@asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """The port of a server that takes connections and says nothing."""
    async with _served(asyncio.Protocol, None) as port:
        yield port


@asynccontextmanager
async def _served(conversation: Callable[[], asyncio.BaseProtocol], tls: ssl.SSLContext | None) -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(conversation, "127.0.0.1", 0, ssl=tls)
    async with server:
        port: int = server.sockets[0].getsockname()[1]
        yield port
        server.close()

"""Sending of e-mails: to an SMTP server, or into a folder if no server is configured."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from email.headerregistry import Address, AddressHeader
from email.message import EmailMessage
from email.policy import SMTPUTF8
from pathlib import Path
from ssl import SSLContext
from typing import Protocol
from urllib.parse import unquote, urlsplit

from aiosmtplib import SMTP, SMTPNotSupported, SMTPRecipientsRefused, SMTPTimeoutError

from contracts.email_addresses import parse_email
from contracts.errors import AddressRefused

DEFAULT_SENDER = "ADX <adx@localhost>"
"""Sender for a folder of files; a mail server requires an address of its own domain."""
SEND_TIMEOUT_SECONDS = 20.0
"""Time limit for one e-mail including the connection; less than the timeout of the step (``workflows/options.py``)."""
_RESPONSE_TIMEOUT_SECONDS = 10.0
_QUIT_TIMEOUT_SECONDS = 2.0
_MIN_PERMANENT_CODE = 500
"""SMTP reply codes from here on are permanent failures (RFC 5321, 4.2.1)."""


class Mailer(Protocol):
    """Sends e-mails."""

    async def send(self, email: EmailMessage) -> None:
        """Send the e-mail. Any exception except AddressRefused is a fault that a retry may overcome.

        Raises:
            AddressRefused: the recipient's address cannot receive e-mail.
        """


@dataclass(frozen=True)
class SmtpServer:
    """Address and credentials of an SMTP server.

    ``encrypted`` selects TLS from the start (``smtps://``). Otherwise (``smtp://``) STARTTLS is used if the server
    offers it, and required before a password is sent. ``port`` is None for the default port.
    """

    host: str
    port: int | None
    encrypted: bool
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> SmtpServer:
        """Parse ``smtp[s]://[user:password@]host[:port]`` with percent-encoded user and password.

        Raises:
            ValueError: the URL does not have this form.
        """
        invalid = ValueError("Write smtp://user:password@host:port, or smtps:// for TLS from the start.")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise invalid from None  # the error quotes the URL, which may contain a password
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise invalid
        return cls(
            host=parts.hostname,
            port=port,
            encrypted=parts.scheme == "smtps",
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
        )


class SmtpMailer:
    """Sends each e-mail over its own SMTP connection.

    Args:
        server: the SMTP server.
        tls: the TLS context; None trusts the certificate authorities of this machine.
        timeout_seconds: the time limit for one e-mail.
    """

    def __init__(
        self, server: SmtpServer, *, tls: SSLContext | None = None, timeout_seconds: float = SEND_TIMEOUT_SECONDS
    ) -> None:
        self._server = server
        self._tls = tls
        self._timeout_seconds = timeout_seconds

    async def send(self, email: EmailMessage) -> None:
        server = self._server
        client = SMTP(
            hostname=server.host,
            port=server.port,
            username=server.user,
            password=server.password,
            use_tls=server.encrypted,
            start_tls=True if server.user and not server.encrypted else None,
            tls_context=self._tls,
            timeout=_RESPONSE_TIMEOUT_SECONDS,
        )
        try:
            await self._within_deadline(client, email)
            with suppress(Exception):  # the server has accepted the e-mail, whatever it replies now
                await client.quit(timeout=_QUIT_TIMEOUT_SECONDS)
        finally:
            client.close()

    async def _within_deadline(self, client: SMTP, email: EmailMessage) -> None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await client.connect()
                await _deliver(client, email)
        except TimeoutError as error:
            raise SMTPTimeoutError("The mail server takes too long.") from error


async def _deliver(client: SMTP, email: EmailMessage) -> None:
    try:
        await client.send_message(_for_smtp(email))
    except SMTPNotSupported as error:  # a non-ASCII local part, which the server does not support (RFC 6531)
        raise AddressRefused() from error
    except SMTPRecipientsRefused as error:
        if all(each.code >= _MIN_PERMANENT_CODE for each in error.recipients):
            raise AddressRefused() from error
        raise
    except ValueError as error:  # an address that SMTP cannot transport
        raise AddressRefused() from error


def _for_smtp(email: EmailMessage) -> EmailMessage:
    """Return the e-mail with its recipients in the ASCII form of their addresses, which most servers accept."""
    recipients = email["To"]
    assert isinstance(recipients, AddressHeader)
    ascii_recipients = []
    for each in recipients.addresses:
        local_part, _, domain = parse_email(each.addr_spec).for_smtp.rpartition("@")
        ascii_recipients.append(Address(each.display_name, username=local_part, domain=domain))
    email = copy(email)
    del email["To"]
    email["To"] = ascii_recipients
    return email


class FileMailer:
    """Writes each e-mail to a file ``.eml`` that only this user may read; a repeated e-mail replaces its file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def send(self, email: EmailMessage) -> None:
        await asyncio.to_thread(self._write, email)

    def _write(self, email: EmailMessage) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name, _, _ = email["Message-ID"].strip("<>").partition("@")
        file = self._folder / f"{name}.eml"
        draft = file.with_suffix(f".{os.urandom(4).hex()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as output:
            output.write(email.as_bytes(policy=SMTPUTF8))
        draft.rename(file)  # atomic


def create_mailer(smtp_url: str | None, folder: Path) -> Mailer:
    """Return a mailer for the SMTP server of the URL, or for the folder if the URL is None."""
    return FileMailer(folder) if smtp_url is None else SmtpMailer(SmtpServer.parse(smtp_url))

"""How letters leave us: to an SMTP server, or into a folder where none is named."""

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
"""Good for a folder; a mail server wants an address of its own domain."""
DEADLINE_SECONDS = 20.0
"""For one letter, the connection included; under the deadline of the step (``workflows/options.py``)."""
_ANSWER_SECONDS = 10.0
_FAREWELL_SECONDS = 2.0
_PERMANENT = 500
"""From here on a mail server's no is final (RFC 5321, 4.2.1)."""


class Mail(Protocol):
    async def send(self, letter: EmailMessage) -> None:
        """Hand the letter over. AddressRefused is final; whatever else is raised is worth another try."""


@dataclass(frozen=True)
class SmtpServer:
    """``smtp://`` encrypts where the server can, and always before it sends a password; ``smtps://`` from the start.

    ``port``: None for the usual one.
    """

    host: str
    port: int | None
    encrypted: bool
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> SmtpServer:
        """``smtp[s]://[user:password@]host[:port]``, user and password percent-encoded. ValueError where it is none."""
        refused = ValueError("Write smtp://user:password@host:port, or smtps:// for TLS from the start.")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise refused from None  # it quotes what may be a password
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise refused
        return cls(
            host=parts.hostname,
            port=port,
            encrypted=parts.scheme == "smtps",
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
        )


class SmtpMail:
    """One connection a letter. ``tls``: whom to trust, where that is not what this machine trusts."""

    def __init__(self, server: SmtpServer, *, tls: SSLContext | None = None, seconds: float = DEADLINE_SECONDS) -> None:
        self._server = server
        self._tls = tls
        self._seconds = seconds

    async def send(self, letter: EmailMessage) -> None:
        server = self._server
        client = SMTP(
            hostname=server.host,
            port=server.port,
            username=server.user,
            password=server.password,
            use_tls=server.encrypted,
            start_tls=True if server.user and not server.encrypted else None,
            tls_context=self._tls,
            timeout=_ANSWER_SECONDS,
        )
        try:
            await self._within_deadline(client, letter)
            with suppress(Exception):  # the letter is theirs, however we part
                await client.quit(timeout=_FAREWELL_SECONDS)
        finally:
            client.close()

    async def _within_deadline(self, client: SMTP, letter: EmailMessage) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await client.connect()
                await _hand_over(client, letter)
        except TimeoutError as error:
            raise SMTPTimeoutError("The mail server takes too long.") from error


async def _hand_over(client: SMTP, letter: EmailMessage) -> None:
    try:
        await client.send_message(_for_smtp(letter))
    except SMTPNotSupported as error:  # a local part beyond ASCII, and a server that takes none (RFC 6531)
        raise AddressRefused() from error
    except SMTPRecipientsRefused as error:
        if all(each.code >= _PERMANENT for each in error.recipients):
            raise AddressRefused() from error
        raise
    except ValueError as error:  # an address that SMTP cannot carry
        raise AddressRefused() from error


def _for_smtp(letter: EmailMessage) -> EmailMessage:
    """The letter to the same mailboxes, in the form that most servers can deliver to."""
    recipients = letter["To"]
    assert isinstance(recipients, AddressHeader)
    written = []
    for each in recipients.addresses:
        local_part, _, domain = parse_email(each.addr_spec).for_smtp.rpartition("@")
        written.append(Address(each.display_name, username=local_part, domain=domain))
    letter = copy(letter)
    del letter["To"]
    letter["To"] = written
    return letter


class FileMailer:
    """A file ``.eml`` for each letter, readable by nobody else; the same letter again is the same file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def send(self, letter: EmailMessage) -> None:
        await asyncio.to_thread(self._write, letter)

    def _write(self, letter: EmailMessage) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name, _, _ = letter["Message-ID"].strip("<>").partition("@")
        file = self._folder / f"{name}.eml"
        draft = file.with_suffix(f".{os.urandom(4).hex()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as output:
            output.write(letter.as_bytes(policy=SMTPUTF8))
        draft.rename(file)  # whole or not at all


def open_mail(smtp_url: str | None, folder: Path) -> Mail:
    """To the SMTP server of that URL, or into the folder where there is none."""
    return FileMailer(folder) if smtp_url is None else SmtpMail(SmtpServer.parse(smtp_url))

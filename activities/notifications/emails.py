"""The texts of e-mails, each as plain text and as HTML."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from html import escape

from contracts.email_addresses import parse_email
from contracts.errors import AddressRefused
from contracts.notifications import WelcomeEmail


@dataclass(frozen=True)
class EmailHeaders:
    """Headers of an e-mail. ``sender`` is the From address, ``message_id`` includes the angle brackets."""

    sender: str
    message_id: str
    date: datetime


def welcome_email(welcome: WelcomeEmail, headers: EmailHeaders, link: str) -> EmailMessage:
    """Return the e-mail that tells a new user about the account and links to the workspace.

    Raises:
        AddressRefused: the recipient's e-mail address is not valid.
    """
    lines = [
        f"Hello {welcome.name},",
        f"welcome to {welcome.tenant_name}! There is an account for you now.",
        f"Sign in as {welcome.email}, with the password that you received from the person who invited you.",
    ]
    if "://" in link:
        lines.append(f"Your workspace is here: {link}")
    lines.append("If you did not expect this e-mail, you can ignore it.")
    email = _email(welcome.name, welcome.email, headers, subject=f"Welcome to {welcome.tenant_name}")
    email.set_content("\n\n".join(lines) + "\n")
    email.add_alternative(_page(lines, link), subtype="html")
    return email


def _email(name: str, address: str, headers: EmailHeaders, *, subject: str) -> EmailMessage:
    email = EmailMessage()
    email["From"] = headers.sender
    email["To"] = _recipient(name, address)
    email["Subject"] = subject
    email["Date"] = headers.date
    email["Message-ID"] = headers.message_id
    email["Auto-Submitted"] = "auto-generated"  # prevents automatic replies (RFC 3834)
    return email


def _recipient(name: str, address: str) -> Address:
    try:
        parts = parse_email(address)
    except ValueError as error:
        raise AddressRefused() from error
    return Address(name, username=parts.local_part, domain=parts.domain)


def _page(lines: list[str], link: str) -> str:
    paragraphs = "\n".join(f"<p>{escape(line)}</p>" for line in lines)
    paragraphs = paragraphs.replace(escape(link), f'<a href="{escape(link)}">{escape(link)}</a>')
    style = "font: 16px/1.5 system-ui, sans-serif; max-width: 36em; margin: 2em auto; color: #222"
    return f'<!doctype html>\n<html lang="en"><body><div style="{style}">\n{paragraphs}\n</div></body></html>\n'

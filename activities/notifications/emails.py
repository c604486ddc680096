"""What our letters say."""

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
    """``message_id``: with its angle brackets."""

    sender: str
    message_id: str
    date: datetime


def welcome_letter(welcome: WelcomeEmail, head: EmailHeaders, link: str) -> EmailMessage:
    """To a new user: that there is an account for them, and a link to their workspace.

    Raises:
        AddressRefused: the address is none.
    """
    lines = [
        f"Hello {welcome.name},",
        f"welcome to {welcome.tenant_name}! There is an account for you now.",
        f"Sign in as {welcome.email}, with the password that you were told by whoever invited you.",
    ]
    if "://" in link:
        lines.append(f"Your workspace is here: {link}")
    lines.append("If you did not expect this, you need do nothing.")
    letter = _letter(welcome.name, welcome.email, head, subject=f"Welcome to {welcome.tenant_name}")
    letter.set_content("\n\n".join(lines) + "\n")
    letter.add_alternative(_page(lines, link), subtype="html")
    return letter


def _letter(name: str, address: str, head: EmailHeaders, *, subject: str) -> EmailMessage:
    letter = EmailMessage()
    letter["From"] = head.sender
    letter["To"] = _recipient(name, address)
    letter["Subject"] = subject
    letter["Date"] = head.date
    letter["Message-ID"] = head.message_id
    letter["Auto-Submitted"] = "auto-generated"  # so that no out-of-office note answers (RFC 3834)
    return letter


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

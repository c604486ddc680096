"""What our letters say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from html import escape

from contracts.errors import AddressRefused
from contracts.notifications import WelcomeEmail

_ADDRESS = re.compile(
    r"""(?P<username>[^\s\x00-\x1f\x7f@"(),:;<>\[\]\\]+)@(?P<domain>[^\s\x00-\x1f\x7f@"(),:;<>\[\]\\]+)"""
)
"""Without what needs quotes or brackets (RFC 5322, 3.2.3): such addresses are legal, and nobody has one."""


@dataclass(frozen=True)
class Letterhead:
    """``message_id``: with its angle brackets."""

    sender: str
    message_id: str
    date: datetime


def welcome_letter(welcome: WelcomeEmail, head: Letterhead) -> EmailMessage:
    """To a new user: that there is an account for them, and where. AddressRefused where the address is none."""
    lines = [
        f"Hello {welcome.name},",
        f"welcome to {welcome.tenant_name}! There is an account for you now.",
        f"Sign in as {welcome.email}, with the password that you were told by whoever invited you.",
    ]
    link = welcome.workspace_url if "://" in welcome.workspace_url else None
    if link:
        lines.append(f"Your workspace is here: {link}")
    lines.append("If you did not expect this, you need do nothing.")
    letter = _letter(welcome.name, welcome.email, head, subject=f"Welcome to {welcome.tenant_name}")
    letter.set_content("\n\n".join(lines) + "\n")
    letter.add_alternative(_page(lines, link), subtype="html")
    return letter


def _letter(name: str, address: str, head: Letterhead, *, subject: str) -> EmailMessage:
    letter = EmailMessage()
    letter["From"] = head.sender
    letter["To"] = Address(name, **_parts(address))
    letter["Subject"] = subject
    letter["Date"] = head.date
    letter["Message-ID"] = head.message_id
    letter["Auto-Submitted"] = "auto-generated"  # so that no out-of-office note answers (RFC 3834)
    return letter


def _parts(address: str) -> dict[str, str]:
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise AddressRefused()
    return match.groupdict()


def _page(lines: list[str], link: str | None) -> str:
    paragraphs = "\n".join(f"<p>{escape(line)}</p>" for line in lines)
    if link:
        paragraphs = paragraphs.replace(escape(link), f'<a href="{escape(link)}">{escape(link)}</a>')
    style = "font: 16px/1.5 system-ui, sans-serif; max-width: 36em; margin: 2em auto; color: #222"
    return f'<!doctype html>\n<html lang="en"><body><div style="{style}">\n{paragraphs}\n</div></body></html>\n'

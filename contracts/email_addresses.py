"""E-mail addresses: validation, comparison, and the form in which a mail server receives them.

An address is stored, displayed and delivered to in the form in which the user entered it. ``email_key`` decides whether
two addresses belong to the same account: it compares the domain as A-labels (UTS 46 and IDNA 2008, nontransitional) and
the local part in lower case after NFC (RFC 5321, 2.4 lets a host distinguish ``Ada`` and ``ada``; no large host does).

An address must have the form ``local-part@domain`` of RFC 5321, 4.1.2 with the characters of RFC 6531, 3.3. These are
not accepted:

- a quoted local part (``"a b"@example.com``) and an address literal (``a@[192.0.2.1]``): no mail provider issues them
- a domain of one label (``a@localhost``): it is not fully qualified (RFC 5321, 2.3.5)
- invisible characters, and compatibility characters such as full-width letters in the local part: such an address looks
  like a different address
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

import idna

MAX_ADDRESS_OCTETS = 254
"""RFC 5321, 4.5.3.1.3: a path has at most 256 octets, including two angle brackets."""
MAX_LOCAL_PART_OCTETS = 64
MAX_LABEL_OCTETS = 63
MAX_DOMAIN_OCTETS = 253

_ASCII_ATOM = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~.")
"""The characters of an atom (RFC 5322, 3.2.3), and the dot between atoms."""
_FULL_STOPS = re.compile("[.\u3002\uff0e\uff61]")
"""The characters that separate the labels of a domain (UTS 46, 2.3)."""
_ASCII_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_JOINERS = frozenset("\u200c\u200d")
"""Invisible joiners, which IDNA 2008 allows in domains of scripts that need them (RFC 5892, appendix A)."""


class EmailAddress(NamedTuple):
    """A valid e-mail address. ``domain``: as entered; ``ascii_domain``: the A-labels of the domain in lower case."""

    local_part: str
    domain: str
    ascii_domain: str

    @property
    def key(self) -> str:
        """The normalized address, which is equal for addresses that belong to the same account."""
        return f"{_normalized_local_part(self.local_part)}@{self.ascii_domain}"

    @property
    def for_smtp(self) -> str:
        """The address in the form for a mail server.

        The domain is written as A-labels, so that SMTPUTF8 is not needed, or as U-labels if the local part needs it.
        """
        if self.domain.isascii():
            domain = self.domain
        elif self.local_part.isascii():
            domain = self.ascii_domain
        else:
            domain = ".".join(map(_unicode_label, self.ascii_domain.split(".")))
        return f"{self.local_part}@{domain}"


def parse_email(text: str) -> EmailAddress:
    """Parse and validate an e-mail address; surrounding whitespace is ignored.

    Raises:
        ValueError: The text is not an accepted address; the message says why.
    """
    text = text.strip()
    local_part, at, domain = text.rpartition("@")
    if not (local_part and at and domain):
        raise ValueError("This is not an e-mail address.")
    _check_invisible(text)
    _check_local_part(local_part)
    address = EmailAddress(local_part, domain, _ascii_domain(domain))
    if max(_octets(text), _octets(f"{local_part}@{address.ascii_domain}")) > MAX_ADDRESS_OCTETS:
        raise ValueError(f"This is too long: an e-mail address has at most {MAX_ADDRESS_OCTETS} octets.")
    return address


def email_key(text: str) -> str:
    """Return the key of an address; for text that is not an address, a key that no address has."""
    try:
        return parse_email(text).key
    except ValueError:
        return f"@{text.strip().lower()}"


def _check_invisible(text: str) -> None:
    for character in text:
        if character not in _JOINERS and unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
            raise ValueError(f"An e-mail address must not contain invisible characters ({code_point(character)}).")


def _check_local_part(local_part: str) -> None:
    if local_part.startswith('"') and local_part.endswith('"'):
        raise ValueError("An e-mail address with quotation marks is not supported.")
    for character in local_part:
        if not (character in _ASCII_ATOM if character.isascii() else unicodedata.category(character)[0] in "LMNPS"):
            raise ValueError(f"The part before the @ must not contain {_format_character(character)}.")
    if unicodedata.normalize("NFKC", local_part) != unicodedata.normalize("NFC", local_part):
        raise ValueError("The part before the @ must not contain full-width or other compatibility characters.")
    if local_part.startswith(".") or local_part.endswith(".") or ".." in local_part:
        raise ValueError("A dot before the @ must stand between other characters.")
    if max(_octets(local_part), _octets(_normalized_local_part(local_part))) > MAX_LOCAL_PART_OCTETS:
        raise ValueError(f"The part before the @ is too long: at most {MAX_LOCAL_PART_OCTETS} octets.")


def _ascii_domain(domain: str) -> str:
    if domain.startswith("["):
        raise ValueError("An e-mail address with an address literal as its domain is not supported.")
    labels = _FULL_STOPS.split(domain)
    if len(labels) < 2 or not all(labels):
        raise ValueError("The domain after the @ must have the form example.com.")
    if any(len(label) > MAX_LABEL_OCTETS for label in labels):  # the time of ``idna`` grows quadratically
        raise _label_too_long()
    try:
        mapped = idna.uts46_remap(domain, std3_rules=True, transitional=False)
        encoded = ".".join(_ascii_label(label) for label in mapped.split("."))
        if len(encoded) > MAX_DOMAIN_OCTETS:
            raise _not_a_domain()
    except (idna.IDNAError, UnicodeError) as error:
        raise _label_too_long() if "too long" in str(error) else _not_a_domain() from error
    if encoded.rpartition(".")[2].isdigit() or encoded.count(".") != len(labels) - 1:
        raise _not_a_domain()
    return encoded


def _ascii_label(label: str) -> str:
    """Return the A-label of a label. In an ASCII label, hyphens may be anywhere except at its ends (RFC 1123, 2.1)."""
    if _ASCII_LABEL.fullmatch(label) and not label.startswith("xn--"):
        return label
    return idna.alabel(label).decode().lower()


def _unicode_label(label: str) -> str:
    return idna.ulabel(label) if label.startswith("xn--") else label


def _normalized_local_part(local_part: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", local_part).lower())


def _label_too_long() -> ValueError:
    return ValueError(f"A label of the domain after the @ is too long: at most {MAX_LABEL_OCTETS} octets.")


def _not_a_domain() -> ValueError:
    return ValueError("The part after the @ is not a domain name.")


def code_point(character: str) -> str:
    """Return the code point of a character in the notation of Unicode, for instance U+200B."""
    return f"U+{ord(character):04X}"


def _format_character(character: str) -> str:
    is_visible = character.isprintable() and not character.isspace()
    return f'"{character}"' if is_visible else f"the character {code_point(character)}"


def _octets(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))

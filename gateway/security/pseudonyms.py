"""The command that prints the pseudonyms of users and clients in the logs, to search the logs for them.

Usage: ``python -m gateway.security.pseudonyms ada@example.com usr_... 203.0.113.7``. Pseudonyms are digests that depend
on the environment variable SECRET_KEY of the gateways. If it lists several keys, the command prints one pseudonym for
each key, that of the current key first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from ipaddress import ip_address

from contracts.base import is_id
from contracts.email_addresses import email_key
from gateway.security.client_network import network_of
from infrastructure.observability.pseudonyms import Pseudonyms
from infrastructure.signing.secret_keys import SecretKeys


def log_field(pseudonyms: Pseudonyms, text: str) -> tuple[str, str]:
    """Return the name of the log field (``account`` or ``client``) and the pseudonym for an identifier.

    Args:
        text: an e-mail address, a user id, or the IP address of a client.

    Raises:
        ValueError: the text is none of these.
    """
    if is_id(text, "usr"):
        return "account", pseudonyms.account(text)
    if "@" in text:
        return "account", pseudonyms.account(email_key(text))
    ip_address(text)
    return "client", pseudonyms.client(network_of(text))


def main(arguments: Sequence[str]) -> int:
    """Print the pseudonyms and return the exit code: 2 for wrong arguments or a wrong key, else 0."""
    secret = os.environ.get("SECRET_KEY", "")
    if not secret or not arguments:
        sys.stdout.write(
            "Set SECRET_KEY to that of the gateways, and pass e-mail addresses, user ids or IP addresses of clients.\n"
        )
        return 2
    try:
        keys = SecretKeys.parse(secret)
    except ValueError as error:
        sys.stdout.write(f"SECRET_KEY {error}.\n")
        return 2
    for text in arguments:
        for key in keys.all:
            try:
                field, digest = log_field(Pseudonyms(key), text)
            except ValueError:
                sys.stdout.write(f"{text}: not an e-mail address, a user id or an IP address.\n")
                return 2
            sys.stdout.write(f"{field}={digest}  {text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""``python -m gateway.security.pseudonyms ada@example.com usr_... 203.0.113.7``: the digests by which logs know them.

An e-mail address or the id of a user is an account; anything else is the address of a client. The digests are made
with SECRET_KEY, the gateways' own; of several keys, each makes one, the current key's first.
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


def digest_of(pseudonyms: Pseudonyms, text: str) -> tuple[str, str]:
    """Return the name of the field in the log, and its value.

    Raises:
        ValueError: the text is no e-mail address, no id of a user and no address of a client.
    """
    if is_id(text, "usr"):
        return "account", pseudonyms.account(text)
    if "@" in text:
        return "account", pseudonyms.account(email_key(text))
    ip_address(text)
    return "client", pseudonyms.client(network_of(text))


def main(arguments: Sequence[str]) -> int:
    secret = os.environ.get("SECRET_KEY", "")
    if not secret or not arguments:
        sys.stdout.write(
            "Set SECRET_KEY to that of the gateways, and name e-mail addresses, ids of users or addresses of clients.\n"
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
                field, digest = digest_of(Pseudonyms(key), text)
            except ValueError:
                sys.stdout.write(f"{text}: this is no e-mail address, no id of a user and no address of a client.\n")
                return 2
            sys.stdout.write(f"{field}={digest}  {text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

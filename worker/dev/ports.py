"""TCP ports: whether one is free, and which."""

from __future__ import annotations

import itertools
import os
import socket
from contextlib import suppress

_OWN = range(10_000, 32_000)
"""Below those that systems give to connections and to whoever asks for any port: nobody is given one of these between
the choice and the moment when the child listens there.
"""
_taken = itertools.count()


class PortTaken(Exception):
    """Somebody listens there already; the message says how to choose another."""


def listen(host: str, port: int, variable: str) -> socket.socket:
    """A socket that holds the port (0: any free one) from now on, before anything slow begins. Raises PortTaken."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise PortTaken(
            f"Port {port} of {host} is not to be had ({error.strerror}): set {variable} to another."
        ) from error


def chosen_port(host: str, port: int, variable: str) -> int:
    """The port for a child process to listen on, free at this moment (0: any). Raises PortTaken."""
    if not port:
        return free_port(host)
    with listen(host, port, variable) as held:
        return int(held.getsockname()[1])


def free_port(host: str) -> int:
    """Another one each time, and in each process that asks meanwhile. Raises PortTaken where none is free."""
    for _ in _OWN:
        with suppress(PortTaken):
            return chosen_port(host, _OWN[(os.getpid() * 211 + next(_taken)) % len(_OWN)], "")
    raise PortTaken(f"No port of {host} from {_OWN.start} to {_OWN.stop - 1} is free.")

"""Find and reserve free TCP ports."""

from __future__ import annotations

import itertools
import os
import socket
from contextlib import suppress

_PORTS = range(10_000, 32_000)
"""Ports below the ephemeral range: the system does not assign a chosen port before the child process binds it."""
_next_port = itertools.count()


class PortTaken(Exception):
    """The port is in use; the message names the variable that selects another port."""


def listen(host: str, port: int, variable: str) -> socket.socket:
    """Return a socket that listens on the port (0: any free port). Raises PortTaken."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise PortTaken(
            f"Port {port} of {host} is not available ({error.strerror}): set {variable} to another port."
        ) from error


def chosen_port(host: str, port: int, variable: str) -> int:
    """Return the port if it is free now, for a child process to bind (0: any free port). Raises PortTaken."""
    if not port:
        return free_port(host)
    with listen(host, port, variable) as reserved:
        return int(reserved.getsockname()[1])


def free_port(host: str) -> int:
    """Return a free port, another at each call and in each process. Raises PortTaken if there is none."""
    for _ in _PORTS:
        with suppress(PortTaken):
            return chosen_port(host, _PORTS[(os.getpid() * 211 + next(_next_port)) % len(_PORTS)], "")
    raise PortTaken(f"No port of {host} from {_PORTS.start} to {_PORTS.stop - 1} is free.")

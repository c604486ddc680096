"""TCP ports: whether one is free, and which."""

from __future__ import annotations

import socket


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
    with listen(host, port, variable) as held:
        return int(held.getsockname()[1])


def free_port(host: str) -> int:
    return chosen_port(host, 0, "")

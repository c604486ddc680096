"""Limits of a request's head (request line and headers) for HTTP/1.1 and HTTP/2, and the syntax of ``Host``."""

from __future__ import annotations

import re

MAX_HEAD_BYTES = 16 * 1024
MAX_HEADERS = 100
HOST = re.compile(rb"(?:[A-Za-z0-9._~-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?")
"""A host name, an IPv4 address, or an IPv6 address in brackets, each with or without a port."""

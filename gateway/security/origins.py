"""Web origins (scheme, host and port, RFC 6454): parse them, and compare them with the address of a request."""

from __future__ import annotations

from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def parse_origin(text: str) -> str:
    """Return the origin as browsers write it in the header ``Origin``: without a path and without the default port.

    Raises:
        ValueError: the text is not an http or https origin.
    """
    parts = urlsplit(text.strip())
    port = parts.port
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError(f"{text!r} is no origin: write one as https://app.example.com")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    written_port = "" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}"
    return f"{parts.scheme}://{host}{written_port}"


def is_same_origin(origin: str, host: str, by_tls: bool) -> bool:
    """Return whether the origin has the host and port of the request.

    Args:
        origin: the value of the request's header ``Origin``.
        host: the value of the request's header ``Host``.
        by_tls: whether the client uses TLS; an origin with the scheme http is then a different one.
    """
    try:
        page, request = urlsplit(origin), urlsplit(f"//{host}")
        default_port = _DEFAULT_PORTS.get(page.scheme)
        if by_tls and page.scheme != "https":
            return False
        return page.hostname == request.hostname is not None and (page.port or default_port) == (
            request.port or default_port
        )
    except ValueError:
        return False

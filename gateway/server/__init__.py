"""The ASGI server: all code that uses internals of hypercorn, h11, h2 and wsproto. See README.md for the reasons."""

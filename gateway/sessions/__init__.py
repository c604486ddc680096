"""Sessions in the gateway: cookies and tokens of requests, the session cache, and the session monitor."""

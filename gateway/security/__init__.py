"""Security of the endpoints: origins, CSRF, security headers, proxy headers, rate limits, and the codec server."""

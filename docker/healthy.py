"""Health check of a container: exit with status 0 if /healthz on METRICS_PORT responds with 200."""

import os
import sys
import urllib.request

port = os.environ.get("METRICS_PORT", "9464")
try:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2) as answer:
        sys.exit(0 if answer.status == 200 else 1)
except OSError as error:
    sys.exit(f"{type(error).__name__} on port {port}")

"""``make dev``: run the whole product in one process, with a Temporal server as a child process, until Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from contextlib import ExitStack, suppress

from pydantic import ValidationError

from infrastructure.observability.logging import configure_logs
from infrastructure.temporal.connection import exit_process
from worker.demo import PASSWORD, TOTP_SECRET
from worker.dev.binaries import BinaryMissing
from worker.dev.data_dir import DataDirUnusable, load_or_create_keys, lock_data_dir
from worker.dev.ports import PortTaken, chosen_port, listen
from worker.dev.settings import DevSettings
from worker.dev.stack import StackResources, TemporalEnded, run
from worker.dev.temporal_server import TemporalUnavailable, temporal_server

_TEMPORAL_HOST = "127.0.0.1"


def main(arguments: list[str]) -> int:
    """Return 0 after a stop signal, 1 if the product cannot start or the Temporal server ends."""
    if arguments:
        return _fail("usage: python -m worker.dev, without arguments; its settings come from the environment.")
    for stop_signal in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop_signal, signal.default_int_handler)
    configure_logs(logging.WARNING)
    try:
        settings = DevSettings()
        with suppress(KeyboardInterrupt):
            _run(settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return _fail(f"{'.'.join(map(str, first['loc'])).upper()}: {first['msg']}.")
    except (BinaryMissing, DataDirUnusable, PortTaken, TemporalEnded, TemporalUnavailable) as error:
        return _fail(str(error))
    return 0


def _run(settings: DevSettings) -> None:
    data_dir = settings.data_dir.absolute()
    _remove_temporal_variables()
    with ExitStack() as stack:
        listening = stack.enter_context(listen(settings.host, settings.gateway_port, "GATEWAY_PORT"))
        port = chosen_port(_TEMPORAL_HOST, settings.temporal_port, "TEMPORAL_PORT")
        ui_port = chosen_port(_TEMPORAL_HOST, settings.temporal_ui_port, "TEMPORAL_UI_PORT")
        stack.enter_context(lock_data_dir(data_dir))
        keys = load_or_create_keys(data_dir)
        # 0.0.0.0 includes the loopback address, and the gateway accepts only loopback host names here.
        host = _TEMPORAL_HOST if settings.host == "0.0.0.0" else settings.host  # noqa: S104
        url = f"http://{host}:{listening.getsockname()[1]}"
        temporal = stack.enter_context(
            temporal_server(
                port=port, ui_port=ui_port, log=data_dir / "temporal.log", database=data_dir / "temporal.db"
            )
        )
        resources = StackResources(data_dir=data_dir, keys=keys, listening=listening, temporal=temporal)
        asyncio.run(run(resources, lambda metrics: _print_addresses(url, metrics, resources)))


def _remove_temporal_variables() -> None:
    """Remove the variables from which the SDK would read the address, TLS or API key of another Temporal server."""
    for name in [name for name in os.environ if name.startswith("TEMPORAL_")]:
        if name not in ("TEMPORAL_CLI", "TEMPORAL_PORT", "TEMPORAL_UI_PORT"):
            del os.environ[name]
    os.environ["TEMPORAL_CONFIG_FILE"] = os.devnull


def _print_addresses(url: str, metrics: str, resources: StackResources) -> None:
    print(
        f"""
  GraphiQL       {url}/graphiql
  GraphQL        {url}/graphql
  Temporal       {resources.temporal.address}
  Temporal UI    {resources.temporal.ui}
  Metrics        {metrics} (of Temporal: {resources.temporal.metrics})
  Data           {resources.data_dir} (e-mail in its folder mail)

  Demo accounts, all with the password {PASSWORD}:
    ada@example.com      administers Acme and Globex
    grace@example.com    is a member of Acme
    alan@example.com     is a member of Globex, with MFA (TOTP secret {TOTP_SECRET})

ready: press Ctrl-C to stop; the data is kept.
""",
        flush=True,
    )


def _fail(message: str) -> int:
    print(message, file=sys.stderr)
    return 1


if __name__ == "__main__":
    exit_process(main(sys.argv[1:]))

"""``make dev``: everything in one terminal, on embedded parts, until Ctrl-C."""

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
from worker.dev.temporal_server import TemporalSilent, temporal_server

_TEMPORAL = "127.0.0.1"


def main(arguments: list[str]) -> int:
    """The exit status: 0 where somebody asked it to stop, 1 where it could not go on."""
    if arguments:
        return _refuse("usage: python -m worker.dev, without arguments; its settings come from the environment.")
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.default_int_handler)
    configure_logs(logging.WARNING)
    try:
        settings = DevSettings()
        with suppress(KeyboardInterrupt):
            _run(settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return _refuse(f"{'.'.join(map(str, first['loc'])).upper()}: {first['msg']}.")
    except (BinaryMissing, DataDirUnusable, PortTaken, TemporalEnded, TemporalSilent) as error:
        return _refuse(str(error))
    return 0


def _run(settings: DevSettings) -> None:
    data_dir = settings.data_dir.absolute()
    _forget_other_temporals()
    with ExitStack() as stack:
        listening = stack.enter_context(listen(settings.host, settings.gateway_port, "GATEWAY_PORT"))
        port = chosen_port(_TEMPORAL, settings.temporal_port, "TEMPORAL_PORT")
        ui_port = chosen_port(_TEMPORAL, settings.temporal_ui_port, "TEMPORAL_UI_PORT")
        stack.enter_context(lock_data_dir(data_dir))
        keys = load_or_create_keys(data_dir)
        # All addresses of the machine include this one, and the gateway answers to loopback names only.
        host = _TEMPORAL if settings.host == "0.0.0.0" else settings.host  # noqa: S104
        url = f"http://{host}:{listening.getsockname()[1]}"
        temporal = stack.enter_context(
            temporal_server(
                port=port, ui_port=ui_port, log=data_dir / "temporal.log", database=data_dir / "temporal.db"
            )
        )
        grounds = StackResources(data_dir=data_dir, keys=keys, listening=listening, temporal=temporal)
        asyncio.run(run(grounds, lambda metrics: _announce(url, metrics, grounds)))


def _forget_other_temporals() -> None:
    """What the SDK would read of a Temporal elsewhere (address, TLS, API key, profile) is not meant for ours."""
    for name in [name for name in os.environ if name.startswith("TEMPORAL_")]:
        if name not in ("TEMPORAL_CLI", "TEMPORAL_PORT", "TEMPORAL_UI_PORT"):
            del os.environ[name]
    os.environ["TEMPORAL_CONFIG_FILE"] = os.devnull


def _announce(url: str, metrics: str, grounds: StackResources) -> None:
    print(
        f"""
  GraphiQL       {url}/graphiql
  GraphQL        {url}/graphql
  Temporal       {grounds.temporal.address}
  Temporal UI    {grounds.temporal.ui}
  Metrics        {metrics} (Temporal's own: {grounds.temporal.metrics})
  Data           {grounds.data_dir} (e-mail in its folder mail)

  Demo accounts, all with the password {PASSWORD}:
    ada@example.com      administers Acme and Globex
    grace@example.com    is a member of Acme
    alan@example.com     is a member of Globex, with MFA (TOTP secret {TOTP_SECRET})

ready: press Ctrl-C to stop; nothing is lost.
""",
        flush=True,
    )


def _refuse(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    exit_process(main(sys.argv[1:]))

"""``python -m tools.benchmarks.load ROLE CONFIG``: generate load; commands are JSON lines on stdin."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, Protocol

from infrastructure.temporal.connection import exit_process
from tools.benchmarks.baseline import BaselineFollowers, BaselineStarts
from tools.benchmarks.http_client import HttpLoad
from tools.benchmarks.sockets import SocketLoad
from tools.benchmarks.switching import EmptySwitches, Switches

Json = dict[str, Any]


class Load(Protocol):
    """A kind of load."""

    async def do(self, command: Json) -> Json:
        """Execute the command and return its result."""


def create_load(name: str, config: Json) -> Load:
    match name:
        case "http":
            return HttpLoad(config)
        case "baseline-starts":
            return BaselineStarts(config)
        case "baseline-followers":
            return BaselineFollowers(config)
        case "sockets":
            return SocketLoad(config)
        case "switches":
            return Switches(config)
        case "empty-switches":
            return EmptySwitches(config)
    raise ValueError(name)


async def main(name: str, config: Json) -> None:
    role = create_load(name, config)
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader(limit=64 * 1024 * 1024)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while command := await commands.readline():
        answer = await role.do(json.loads(command))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
    exit_process(0)

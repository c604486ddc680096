"""``python -m tools.benchmarks.load ROLE CONFIG``: makes load, told what to do by JSON lines on stdin."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, Protocol

from infrastructure.temporal.connection import exit_process
from tools.benchmarks.baseline import RawFollowers, RawStarts
from tools.benchmarks.http_client import Posts
from tools.benchmarks.sockets import Sockets

Json = dict[str, Any]


class Role(Protocol):
    async def do(self, order: Json) -> Json:
        """Carry the order out and tell how it went."""


def role_of(name: str, config: Json) -> Role:
    match name:
        case "posts":
            return Posts(config)
        case "raw-starts":
            return RawStarts(config)
        case "raw-followers":
            return RawFollowers(config)
        case "sockets":
            return Sockets(config)
    raise ValueError(name)


async def main(name: str, config: Json) -> None:
    role = role_of(name, config)
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader(limit=64 * 1024 * 1024)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while order := await orders.readline():
        answer = await role.do(json.loads(order))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
    exit_process(0)

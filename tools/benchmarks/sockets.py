"""Subscribers by the thousand: a socket each, every one following an operation."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.benchmarks.raw_protocol import Subscriber

Json = dict[str, Any]

FOLLOW = """subscription ($id: ID!, $after: String) { operation(id: $id, after: $after) {
  id status cursor progress { currentStep completedSteps fraction steps { name status attempt } }
} }"""

_AT_ONCE = 64
_CURSOR = re.compile(rb'"cursor": ?"([\w-]+)"')
_STATUS = re.compile(rb'"status": ?"(\w+)"')
_MODE = re.compile(rb'"mode": ?"(\w+)"')


@dataclass
class Place:
    """One subscriber: its operation, the newest cursor it saw, and its socket."""

    operation: str
    cursor: str | None = None
    socket: Subscriber | None = None
    answered: asyncio.Future[None] | None = None


class Sockets:
    def __init__(self, config: Json) -> None:
        self._host, self._port, self._token = config["host"], config["port"], config["token"]
        self._places: list[Place] = []
        self._records: list[tuple[int, str, int, bytes]] = []
        self._nexts = 0
        self._ends = 0
        self._refused = 0
        self._heard = asyncio.Event()

    async def do(self, order: Json) -> Json:
        """connect {operations}; await {count of states | ends, seconds}; cut; take {path}; close."""
        match order["do"]:
            case "connect":
                begun = time.perf_counter()
                self._places = [Place(operation) for operation in order["operations"]]
                await self._open_all(order.get("at_once", _AT_ONCE))
                return {"seconds": time.perf_counter() - begun}
            case "await":
                return await self._await(order.get("count", 0), order.get("ends", 0), order["seconds"])
            case "cut":
                return await self._cut(order["seconds"])
            case "take":
                _keep(order["path"], [self._told(*record) for record in self._records])
                self._records, self._nexts, self._ends = [], 0, 0
                return {}
            case "close":
                for place in self._places:
                    if place.socket is not None:
                        place.socket.cut()
                return {}
        raise ValueError(order["do"])

    async def _open_all(self, at_once: int) -> None:
        """Until each has been told a state, or that it may not be told."""
        turns = asyncio.Semaphore(at_once)

        async def open_one(index: int) -> None:
            async with turns:
                with suppress(OSError, TimeoutError):  # its record tells
                    await self._open(index)

        await asyncio.gather(*(open_one(index) for index in range(len(self._places))))

    async def _open(self, index: int) -> None:
        place = self._places[index]
        loop = asyncio.get_running_loop()
        place.answered = loop.create_future()
        after = {} if place.cursor is None else {"after": place.cursor}
        subscriber = Subscriber(
            self._host,
            {"authorization": f"Bearer {self._token}"},
            {"query": FOLLOW, "variables": {"id": place.operation} | after},
            lambda kind, now, payload: self._hear(index, kind, now, payload),
        )
        place.socket = subscriber
        await loop.create_connection(lambda: subscriber, self._host, self._port)
        async with asyncio.timeout(15):
            await place.answered

    def _hear(self, index: int, kind: str, now: int, payload: bytes) -> None:
        self._records.append((index, kind, now, payload))
        if kind == "next":
            self._nexts += 1
        else:
            self._ends += 1
        self._heard.set()
        answered = self._places[index].answered
        if answered is not None and not answered.done():
            if kind == "next":
                answered.set_result(None)
            else:
                answered.set_exception(ConnectionError(f"{kind}: {payload[:200]!r}"))

    async def _await(self, count: int, ends: int, seconds: float) -> Json:
        try:
            async with asyncio.timeout(seconds):
                while self._nexts < count or self._ends < ends:
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            pass
        return {"count": self._nexts, "ends": self._ends}

    async def _cut(self, seconds: float) -> Json:
        """Cut every socket at once and open them all again at once, each after the newest state that it saw; until
        each has been told a newer one. ``late`` tells how many were not."""
        for index, _, _, payload in self._records:
            if (found := _CURSOR.search(payload)) is not None:
                self._places[index].cursor = found[1].decode()
        for place in self._places:
            if place.socket is not None:
                place.socket.cut()
        begun = time.perf_counter()
        took: list[float] = []

        async def come_back(index: int) -> None:
            while time.perf_counter() - begun < seconds:
                try:
                    await self._open(index)
                except (OSError, TimeoutError):  # refused, or told of an error: a client would wait as well
                    if (given_up := self._places[index].socket) is not None:
                        given_up.cut()
                    self._refused += 1
                    await asyncio.sleep(0.5)
                else:
                    took.append(time.perf_counter() - begun)
                    return

        await asyncio.gather(*(come_back(index) for index in range(len(self._places))))
        return {"seconds": took, "late": len(self._places) - len(took), "refused": self._refused}

    def _told(self, index: int, kind: str, now: int, payload: bytes) -> Json:
        told: Json = {"place": index, "operation": self._places[index].operation, "kind": kind, "at": now}
        if kind != "next":
            return told | {"why": payload[:200].decode(errors="replace")}
        if (cursor := _CURSOR.search(payload)) is None:
            return told | {"kind": "error", "why": payload[:200].decode(errors="replace")}
        status, mode = _STATUS.search(payload), _MODE.search(payload)
        return told | {
            "revision": revision_in(cursor[1].decode()),
            "status": status[1].decode() if status else "",
            "mode": mode[1].decode() if mode else None,
        }


def revision_in(cursor: str) -> int:
    """The state's revision, which a client has no business to read: behind a signature of 12 bytes and the run."""
    return int(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))[12:].split(b".")[1])


def _keep(path: str, records: object) -> None:
    Path(path).write_text(json.dumps(records))

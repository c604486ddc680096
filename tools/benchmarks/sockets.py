"""Thousands of subscribers in one process: each follows an operation over its own websocket."""

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

_MAX_CONCURRENT_CONNECTS = 64
_CURSOR = re.compile(rb'"cursor": ?"([\w-]+)"')
_STATUS = re.compile(rb'"status": ?"(\w+)"')
_MODE = re.compile(rb'"mode": ?"(\w+)"')


@dataclass
class SubscriberState:
    """One subscriber: its operation, the newest cursor it saw, and its socket."""

    operation: str
    cursor: str | None = None
    socket: Subscriber | None = None
    first_response: asyncio.Future[None] | None = None


class SocketLoad:
    """Opens one websocket per operation and records every message with its time of arrival."""

    def __init__(self, config: Json) -> None:
        self._host, self._port, self._token = config["host"], config["port"], config["token"]
        self._subscribers: list[SubscriberState] = []
        self._records: list[tuple[int, str, int, bytes]] = []
        self._nexts = 0
        self._ends = 0
        self._failed_attempts = 0
        self._received = asyncio.Event()

    async def do(self, command: Json) -> Json:
        """Execute a command: connect {operations}, await {count, ends, seconds}, cut {seconds}, take {path}, close."""
        match command["do"]:
            case "connect":
                started = time.perf_counter()
                self._subscribers = [SubscriberState(operation) for operation in command["operations"]]
                await self._open_all(command.get("max_concurrent", _MAX_CONCURRENT_CONNECTS))
                return {"seconds": time.perf_counter() - started}
            case "await":
                return await self._await(command.get("count", 0), command.get("ends", 0), command["seconds"])
            case "cut":
                return await self._abort_all(command["seconds"])
            case "take":
                _write_records(command["path"], [self._describe(*record) for record in self._records])
                self._records, self._nexts, self._ends = [], 0, 0
                return {}
            case "close":
                for subscriber in self._subscribers:
                    if subscriber.socket is not None:
                        subscriber.socket.abort()
                return {}
        raise ValueError(command["do"])

    async def _open_all(self, max_concurrent: int) -> None:
        """Open all sockets; each has received its first state or an error when this returns."""
        semaphore = asyncio.Semaphore(max_concurrent)

        async def open_one(index: int) -> None:
            async with semaphore:
                with suppress(OSError, TimeoutError):  # recorded as a message
                    await self._open(index)

        await asyncio.gather(*(open_one(index) for index in range(len(self._subscribers))))

    async def _open(self, index: int) -> None:
        state = self._subscribers[index]
        loop = asyncio.get_running_loop()
        state.first_response = loop.create_future()
        after = {} if state.cursor is None else {"after": state.cursor}
        subscriber = Subscriber(
            self._host,
            {"authorization": f"Bearer {self._token}"},
            {"query": FOLLOW, "variables": {"id": state.operation} | after},
            lambda kind, now, payload: self._on_message(index, kind, now, payload),
        )
        state.socket = subscriber
        await loop.create_connection(lambda: subscriber, self._host, self._port)
        async with asyncio.timeout(15):
            await state.first_response

    def _on_message(self, index: int, kind: str, now: int, payload: bytes) -> None:
        self._records.append((index, kind, now, payload))
        if kind == "next":
            self._nexts += 1
        else:
            self._ends += 1
        self._received.set()
        first_response = self._subscribers[index].first_response
        if first_response is not None and not first_response.done():
            if kind == "next":
                first_response.set_result(None)
            else:
                first_response.set_exception(ConnectionError(f"{kind}: {payload[:200]!r}"))

    async def _await(self, count: int, ends: int, seconds: float) -> Json:
        try:
            async with asyncio.timeout(seconds):
                while self._nexts < count or self._ends < ends:
                    self._received.clear()
                    await self._received.wait()
        except TimeoutError:
            pass
        return {"count": self._nexts, "ends": self._ends}

    async def _abort_all(self, seconds: float) -> Json:
        """Abort all sockets, then reopen them all with the cursor of their newest state.

        Returns:
            The seconds until each subscriber received a newer state, and the number that did not (``late``).
        """
        for index, _, _, payload in self._records:
            if (found := _CURSOR.search(payload)) is not None:
                self._subscribers[index].cursor = found[1].decode()
        for subscriber in self._subscribers:
            if subscriber.socket is not None:
                subscriber.socket.abort()
        started = time.perf_counter()
        took: list[float] = []

        async def reconnect(index: int) -> None:
            while time.perf_counter() - started < seconds:
                try:
                    await self._open(index)
                except (OSError, TimeoutError):  # refused, or an error: wait as a client would
                    if (failed := self._subscribers[index].socket) is not None:
                        failed.abort()
                    self._failed_attempts += 1
                    await asyncio.sleep(0.5)
                else:
                    took.append(time.perf_counter() - started)
                    return

        await asyncio.gather(*(reconnect(index) for index in range(len(self._subscribers))))
        return {"seconds": took, "late": len(self._subscribers) - len(took), "refused": self._failed_attempts}

    def _describe(self, index: int, kind: str, now: int, payload: bytes) -> Json:
        record: Json = {"subscriber": index, "operation": self._subscribers[index].operation, "kind": kind, "at": now}
        if kind != "next":
            return record | {"why": payload[:200].decode(errors="replace")}
        if (cursor := _CURSOR.search(payload)) is None:
            return record | {"kind": "error", "why": payload[:200].decode(errors="replace")}
        status, mode = _STATUS.search(payload), _MODE.search(payload)
        return record | {
            "revision": revision_in(cursor[1].decode()),
            "status": status[1].decode() if status else "",
            "mode": mode[1].decode() if mode else None,
        }


def revision_in(cursor: str) -> int:
    """Return the revision in the cursor, which is opaque to clients: after a signature of 12 bytes and the run."""
    return int(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))[12:].split(b".")[1])


def _write_records(path: str, records: object) -> None:
    Path(path).write_text(json.dumps(records))

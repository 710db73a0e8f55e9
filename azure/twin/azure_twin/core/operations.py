"""Long-running operations and the locks they hold.

A write answers at once and goes on in the background: 201/200/202 with ``Azure-AsyncOperation``, ``Location`` and
``Retry-After``. While it runs, the object that it locks (a route table, a VNet, a hub, a NIC) refuses other writes.
"""

from __future__ import annotations

import uuid
from typing import Final, Literal

import msgspec

from azure_twin.core.errors import Json

Status = Literal["InProgress", "Succeeded", "Failed", "Canceled"]
KEPT: Final = 5_000  # finished operations that can still be asked for


class Operation(msgspec.Struct, frozen=True, kw_only=True, tag="operation"):
    """One operation. ``touched`` end as Succeeded or Failed with it, ``removed`` leave on success.

    Both are store keys.
    """

    id: str
    name: str
    lock: str
    target: str
    method: str
    started: float
    due: float
    status: Status = "InProgress"
    touched: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    fails: Json | None = None
    error: Json | None = None
    query: str = ""
    owner: str = ""

    def document(self) -> Json:
        """What the status URL answers."""
        body: Json = {"status": self.status, "name": self.id}
        if self.error is not None:
            body["error"] = self.error
        return body


class Operations:
    """All operations by id, and who holds which lock."""

    def __init__(self) -> None:
        self.changes: list[Operation] = []
        self._all: dict[str, Operation] = {}
        self._running: dict[str, Operation] = {}

    def get(self, operation_id: str) -> Operation | None:
        """The operation, running or finished."""
        return self._all.get(operation_id.lower())

    def holder(self, lock: str) -> Operation | None:
        """Who holds a lock."""
        return next((each for each in self._running.values() if each.lock == lock), None)

    def running(self) -> list[Operation]:
        """Everything that is not finished."""
        return list(self._running.values())

    def begin(
        self, name: str, *, lock: str, target: str, method: str, now: float, seconds: float, owner: str = "",
        touched: tuple[str, ...] = (), removed: tuple[str, ...] = (), fails: Json | None = None, query: str = "",
    ) -> Operation:  # fmt: skip
        """Start an operation that takes ``seconds``; the caller has seen that ``lock`` is free."""
        operation = Operation(
            id=str(uuid.uuid4()), name=name, lock=lock, target=target, method=method, started=now, due=now + seconds,
            touched=touched, removed=removed, fails=fails, query=query, owner=owner,
        )  # fmt: skip
        self._keep(operation)
        return operation

    def finish(self, operation: Operation, status: Status, error: Json | None = None) -> Operation:
        """Note the end of an operation."""
        done = msgspec.structs.replace(operation, status=status, error=error)
        self._keep(done)
        return done

    def due(self, now: float) -> list[Operation]:
        """Running operations whose time has come, oldest first."""
        return sorted((each for each in self._running.values() if each.due <= now), key=lambda each: each.due)

    def timer(self) -> float | None:
        """When the next one is due."""
        return min((each.due for each in self._running.values()), default=None)

    def load(self, operation: Operation) -> None:
        """Take over one line of the journal."""
        self._keep(operation)
        self.changes.clear()

    def kept(self) -> list[Operation]:
        """Everything that can be asked for, oldest first."""
        return list(self._all.values())

    def _keep(self, operation: Operation) -> None:
        key = operation.id.lower()
        self._all[key] = operation
        if operation.status == "InProgress":
            self._running[key] = operation
        else:
            self._running.pop(key, None)
        self.changes.append(operation)
        while len(self._all) > KEPT + len(self._running):
            oldest = next(each for each in self._all if each not in self._running)
            del self._all[oldest]

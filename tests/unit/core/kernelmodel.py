"""A small kernel for the property tests: routes by (table, prefix, metric), and errors as the real one gives them."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from bgp_agent.core.fib import Failure, Operation, Verb
from bgp_agent.core.prefix import Prefix
from bgp_agent.core.seen import KernelRoute, Seen, kind_of
from bgp_agent.core.values import Unicast


class ModelKernel:
    def __init__(self, metric: int, protocol: int) -> None:
        self.metric = metric
        self.protocol = protocol
        self.routes: dict[tuple[int, Prefix, int], tuple[int, Seen]] = {}
        self.unreachable: set[int] = set()  # links that are down
        self.overwritten: list[KernelRoute] = []  # strangers' routes that an operation of ours destroyed

    def rows(self, table: int) -> list[KernelRoute]:
        return [
            KernelRoute(at, prefix, metric, protocol, target)
            for (at, prefix, metric), (protocol, target) in sorted(self.routes.items(), key=lambda entry: entry[0])
            if at == table
        ]

    def ours(self, table: int) -> dict[Prefix, Seen]:
        return {
            row.prefix: row.target
            for row in self.rows(table)
            if (row.protocol, row.metric) == (self.protocol, self.metric)
        }

    def strangers(self) -> dict[tuple[int, Prefix, int], tuple[int, Seen]]:
        return {key: entry for key, entry in self.routes.items() if entry[0] != self.protocol}

    def apply(self, operations: Sequence[Operation]) -> dict[int, Failure]:
        failures = {}
        for position, operation in enumerate(operations):
            code = self._apply(operation)
            if code:
                failures[position] = Failure(code, errno.errorcode[code])
        return failures

    def _apply(self, operation: Operation) -> int:
        key = (operation.table, operation.prefix, self.metric)
        there = self.routes.get(key)
        if operation.verb is Verb.DELETE:
            if there is None or there[0] != self.protocol or kind_of(there[1]) != operation.kind:
                return errno.ESRCH
            del self.routes[key]
            return 0
        target = operation.target
        assert target is not None
        if isinstance(target, Unicast) and any(hop.interface in self.unreachable for hop in target.hops):
            return errno.ENETUNREACH
        if operation.verb is Verb.CREATE and there is not None:
            return errno.EEXIST
        if operation.verb is Verb.REPLACE:
            if there is None:
                return errno.ENOENT
            if there[0] != self.protocol:
                self.overwritten.append(KernelRoute(*key[:2], self.metric, *there))
        self.routes[key] = (self.protocol, target)
        return 0

"""The block source that reads ``spec.podCIDRs`` of the own Node: any CNI, and Calico with host-local IPAM."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from bgp_agent.core.prefix import Prefix, PrefixError, PrefixSet, parse_prefix, prefix_text
from bgp_agent.core.values import Blocks, SourceState
from bgp_agent.kubernetes.api import Api
from bgp_agent.kubernetes.errors import ApiError, clean
from bgp_agent.kubernetes.reflector import Kind, Reflector, Unreadable

RETRY: Final = 2.0
"""Seconds until it is looked again for an API server to ask."""


class _Spec(msgspec.Struct):
    cidr: str = msgspec.field(default="", name="podCIDR")
    cidrs: list[str] | None = msgspec.field(default=None, name="podCIDRs")


class _Node(msgspec.Struct):
    spec: _Spec = msgspec.field(default_factory=_Spec)


def read_node(raw: bytes) -> frozenset[Prefix]:
    """The pod CIDRs of a Node, none when it was not given any yet. Raises :class:`Unreadable`."""
    try:
        spec = msgspec.json.decode(raw, type=_Node).spec
        return frozenset(map(parse_prefix, spec.cidrs or ([spec.cidr] if spec.cidr else [])))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, PrefixError) as error:
        raise Unreadable(clean(error)) from error


class NodeSource:
    """Delivers the pod CIDRs of the Node ``node`` that lie in ``pools``, at the start and at each change.

    A Node that was there and is deleted gave its CIDRs back. One that never was there proves nothing.
    """

    def __init__(
        self, open_api: Callable[[], Api], node: str, pools: Iterable[Prefix], deliver: Callable[[Blocks], None]
    ) -> None:
        self._open = open_api
        self._node = node
        self._pools = PrefixSet(pools)
        self._deliver = deliver
        self._known: dict[str, frozenset[Prefix]] = {}
        self._seen = False
        self._problem: str | None = "the Kubernetes API was not asked yet"
        self._reflector: Reflector[frozenset[Prefix]] | None = None
        self._delivered: Blocks | None = None

    def reread(self) -> None:
        """Nothing to do: a watch is never late."""

    def reconfigure(self, path: str, pools: Iterable[Prefix]) -> None:  # noqa: ARG002 - every source takes both
        """Other pools."""
        self._pools = PrefixSet(pools)
        self._tell()

    async def run(self) -> None:
        """Watch and deliver until cancelled."""
        selector = {"fieldSelector": f"metadata.name={self._node}"}
        kind = Kind("/api/v1", "nodes", read_node, selector=selector)
        while True:
            try:
                api = self._open()
            except ApiError as error:
                self._problem = str(error)
                self._tell()
                await asyncio.sleep(RETRY)
                continue
            try:
                self._reflector = Reflector(api, kind, self._on_node, self._known)
                await self._reflector.run()
            finally:
                await api.close()

    def _on_node(self, changes: dict[str, frozenset[Prefix] | None]) -> None:
        del changes  # the reflector's own view is looked at
        self._tell()

    def _tell(self) -> None:
        problem = self._problem if self._reflector is None else self._reflector.problem
        self._seen = self._seen or self._node in self._known
        if not self._seen:
            missing = f"there is no Node {self._node!r}: set node.name, or wait for it to register"
            unreadable = "" if self._reflector is None else self._reflector.unreadable.get(self._node, "")
            self._hand_over(Blocks("node", SourceState.WAITING, problem or unreadable or missing))
            return
        given = self._known.get(self._node)
        blocks = frozenset(each for each in given or () if self._pools.covering(each) is not None)
        withheld = {each: "outside the configured `pools`" for each in given or () if each not in blocks}
        names = ", ".join(sorted(map(prefix_text, blocks))) or "no pod CIDR"
        reason = f"{names} of Node {self._node}" if given is not None else f"the Node {self._node} is deleted"
        state = SourceState.SYNCED
        if problem is not None:
            state, reason = SourceState.STALE, f"{problem}: going on with {reason}"
        self._hand_over(Blocks("node", state, reason, blocks, withheld=withheld))

    def _hand_over(self, blocks: Blocks) -> None:
        if blocks != self._delivered:
            self._delivered = blocks
            self._deliver(blocks)

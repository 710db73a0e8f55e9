"""The addresses of every node of the cluster, followed without reading whole Nodes.

A Node changes every few minutes when its kubelet reports, and carries the list of its images. So only metadata is
watched (``PartialObjectMetadata``), in which Calico writes a node's addresses as annotations. A Node without them is
read once, for its ``InternalIP``; the next one of the same name has another UID and is read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

import msgspec

from bgp_agent.core.prefix import Address, PrefixError, parse_address
from bgp_agent.kubernetes.api import Api
from bgp_agent.kubernetes.errors import Absent, ApiError, Unrouted, clean
from bgp_agent.kubernetes.reflector import Kind, Reflector, Unreadable

METADATA: Final = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"
ANNOTATIONS: Final = ("projectcalico.org/IPv4Address", "projectcalico.org/IPv6Address")
"""``address/length``, written by calico-node when it starts on the node."""
PAUSE: Final = 0.05
"""Seconds between two Nodes that are read whole."""
RETRY: Final = 10.0
"""Seconds until a Node that could not be read is asked for again."""


@dataclass(frozen=True, slots=True)
class Meta:
    """A Node's identity, and the addresses that its annotations tell."""

    uid: str
    addresses: tuple[Address, ...] = ()


class _Metadata(msgspec.Struct):
    uid: str = ""
    annotations: dict[str, str] | None = None


class _Partial(msgspec.Struct):
    metadata: _Metadata


class _Address(msgspec.Struct):
    type: str
    address: str


class _Status(msgspec.Struct):
    addresses: list[_Address] | None = None


class _Node(msgspec.Struct):
    metadata: _Metadata
    status: _Status = field(default_factory=_Status)


_PARTIAL: Final = msgspec.json.Decoder(_Partial)
_NODE: Final = msgspec.json.Decoder(_Node)
_BAD: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, PrefixError)


def read_meta(raw: bytes) -> Meta:
    """The metadata of a Node. Raises :class:`Unreadable`."""
    try:
        found = _PARTIAL.decode(raw).metadata
        texts = [text for each in ANNOTATIONS if (text := (found.annotations or {}).get(each))]
        return Meta(found.uid, tuple(parse_address(text.partition("/")[0]) for text in texts))
    except _BAD as error:
        raise Unreadable(clean(error)) from error


def read_addresses(raw: bytes) -> Meta:
    """A whole Node, with its ``InternalIP`` of each family. Raises :class:`Unreadable`."""
    try:
        node = _NODE.decode(raw)
        texts = [each.address for each in node.status.addresses or () if each.type == "InternalIP"]
        return Meta(node.metadata.uid, tuple(map(parse_address, texts)))
    except _BAD as error:
        raise Unreadable(clean(error)) from error


NODES: Final = Kind("/api/v1", "nodes", read_meta, accept=METADATA.format("List"), accept_event=METADATA.format(""))


class Nodes:
    """Tells ``changed`` the addresses of nodes by name, those that changed; None: not known, or the node is gone.

    It is told an empty mapping when only :attr:`problem` is another one.
    """

    def __init__(
        self, api: Api, changed: Callable[[Mapping[str, tuple[Address, ...] | None]], None], known: dict[str, Meta]
    ) -> None:
        self._api = api
        self._changed = changed
        self._reflector = Reflector(api, NODES, self._on_metadata, known)
        self._read: dict[str, Meta] = {}
        self._wanted: dict[str, None] = {}  # in order
        self._asked = asyncio.Event()
        self._heard = False

    @property
    def problem(self) -> str | None:
        """Why what is known may be old; None while the watch stands."""
        return self._reflector.problem

    @property
    def asked(self) -> bool:
        """Was there an answer, or a refusal."""
        return self._heard

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._reflector.run(), name="nodes")
                    group.create_task(self._reading(), name="nodes without annotations")
            except* Absent:
                pass
            await asyncio.sleep(RETRY)

    def _on_metadata(self, changes: dict[str, Meta | None]) -> None:
        self._heard = True
        told: dict[str, tuple[Address, ...] | None] = {}
        for name, meta in changes.items():
            read = self._read.get(name)
            if meta is None:
                self._read.pop(name, None)
                told[name] = None
            elif meta.addresses:
                told[name] = meta.addresses
            elif read is not None and read.uid == meta.uid:
                told[name] = read.addresses
            else:
                told[name] = None  # another machine, until it is known where
                self._wanted[name] = None
                self._asked.set()
        self._changed(told)

    async def _reading(self) -> None:
        while True:
            await self._asked.wait()
            while self._wanted:
                name = next(iter(self._wanted))
                del self._wanted[name]
                if not await self._look(name):
                    await asyncio.sleep(RETRY)
                await asyncio.sleep(PAUSE)
            self._asked.clear()

    async def _look(self, name: str) -> bool:
        """Read one Node whole. Returns whether it need not be asked for again."""
        try:
            found = read_addresses(await self._api.get(f"/api/v1/nodes/{quote(name, safe='')}"))
        except (Absent, Unreadable, Unrouted):
            return True  # it says so again with its next change, or it is gone
        except ApiError:
            self._wanted[name] = None
            return False
        meta = self._reflector.known.get(name)
        if meta is not None and meta.uid == found.uid and not meta.addresses:
            self._read[name] = found
            self._changed({name: found.addresses})
        return True

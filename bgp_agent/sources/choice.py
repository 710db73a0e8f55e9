"""The block source that the configuration asks for. What only one of them needs is imported for it alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from bgp_agent.config import Config
from bgp_agent.core.prefix import Address, Prefix
from bgp_agent.core.values import Blocks
from bgp_agent.sources.file import FileSource

if TYPE_CHECKING:
    from bgp_agent.kubernetes.api import Api


class Source(Protocol):
    """What every block source does."""

    async def run(self) -> None:
        """Read and deliver until cancelled."""

    def reread(self) -> None:
        """Read again soon, whether it seems changed or not."""

    def reconfigure(self, path: str, pools: Iterable[Prefix]) -> None:
        """Another file, other pools; each source takes what is its own."""


def source_of(
    config: Config,
    pools: Iterable[Prefix],
    deliver: Callable[[Blocks], None],
    owners: Callable[[Mapping[Prefix, Address | None]], None],
) -> Source:
    """The source of ``config``. ``pools``: those that the file names; ``owners``: told where other blocks are."""
    blocks, node = config.blocks, config.node.name or ""
    if blocks.source == "file":
        return FileSource(blocks.path, pools, deliver)
    given = config.kubernetes

    def open_api() -> Api:
        from bgp_agent.kubernetes.api import Api  # noqa: PLC0415 - 12 MiB that the file source does not need

        return Api(given.kubeconfig, given.context)

    if blocks.source == "node":
        from bgp_agent.sources.node import NodeSource  # noqa: PLC0415

        return NodeSource(open_api, node, pools, deliver)
    from bgp_agent.sources.calico import CalicoSource  # noqa: PLC0415

    return CalicoSource(open_api, node, pools, deliver, owners if given.owners else None)

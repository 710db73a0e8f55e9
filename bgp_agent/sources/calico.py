"""The block source that reads Calico's IPAM from the Kubernetes API.

Four watches feed :class:`~bgp_agent.core.ipam.Ipam`: this node's affinities by label, the affinities that carry no
label (written by a Calico before v3.31), all IPAMBlocks, all IPPools. What a lost watch knew stays known, so that
losing the API server changes nothing; the source is ``stale`` with the reason, and what the other watches prove still
acts.

Which of Calico's API groups is the one is found at the start, and again whenever a kind of it stops being served: a
cluster that is migrated while it runs takes its affinities away from one group when they stand in the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from bgp_agent.core.ipam import Affinity, Block, Ipam, Pool
from bgp_agent.core.prefix import Prefix, PrefixSet
from bgp_agent.core.values import Blocks, SourceState
from bgp_agent.kubernetes import calico
from bgp_agent.kubernetes.api import Api
from bgp_agent.kubernetes.errors import Absent, ApiError
from bgp_agent.kubernetes.reflector import Reflector
from bgp_agent.sources.whereabouts import Located, Whereabouts

RETRY: Final = 2.0
"""Seconds until it is looked again for an API server to ask, or for a group that serves Calico's kinds."""
SHOWN: Final = 3
"""Unreadable objects that are named in a sentence; the others are counted."""

AnyReflector: TypeAlias = Reflector[Affinity] | Reflector[Block] | Reflector[Pool]


class CalicoSource:
    """Delivers what follows from Calico's IPAM for ``node``, at the start and at each change.

    ``open_api``: opens the API, or raises :class:`~bgp_agent.kubernetes.errors.Unavailable`. ``allowed``: the
    configured pools; none: what the IPPools hold. ``deliver`` is called from the running loop. ``owners``: also told
    the addresses of the nodes that have the cluster's blocks; None: they are not looked for.
    """

    def __init__(
        self,
        open_api: Callable[[], Api],
        node: str,
        allowed: Iterable[Prefix],
        deliver: Callable[[Blocks], None],
        owners: Callable[[Located], None] | None = None,
    ) -> None:
        self._open = open_api
        self._deliver = deliver
        self._whereabouts = Whereabouts(node, owners, self._tell) if owners is not None else None
        self._ipam = Ipam(node, _given(allowed))
        self._labelled: dict[str, Affinity] = {}
        self._unlabelled: dict[str, Affinity] = {}
        self._blocks: dict[str, Block] = {}
        self._pools: dict[str, Pool] = {}
        self._reflectors: list[AnyReflector] = []
        self._problem = "the Kubernetes API was not asked yet"
        self._synced = False
        self._delivered: Blocks | None = None

    def reread(self) -> None:
        """Nothing to do: a watch is never late."""

    def reconfigure(self, path: str, pools: Iterable[Prefix]) -> None:  # noqa: ARG002 - every source takes both
        """Other pools."""
        self._ipam.allowed = _given(pools)
        self._tell()

    async def run(self) -> None:
        """Watch and deliver until cancelled."""
        try:
            await self._run()
        finally:
            if self._whereabouts is not None:
                self._whereabouts.close()

    async def _run(self) -> None:
        while True:
            try:
                api = self._open()
            except ApiError as error:
                self._lost(str(error))
            else:
                try:
                    await self._follow(api)
                except ApiError as error:
                    self._lost(str(error))
                finally:
                    self._reflectors = []
                    await api.close()
            await asyncio.sleep(RETRY)

    async def _follow(self, api: Api) -> None:
        """Watch one group until it stops being served."""
        group = await calico.find_group(api)
        if group is None:
            names = " nor ".join(each.removeprefix("/apis/") for each in calico.GROUPS)
            self._lost(f"the API server serves Calico's IPAM neither as {names}")
            return
        node = self._ipam.node
        labelled, unlabelled = (calico.affinities(group, node, labelled=each) for each in (True, False))
        watches: list[AnyReflector] = [
            Reflector(api, labelled, self._on_labelled, self._labelled),
            Reflector(api, unlabelled, self._on_unlabelled, self._unlabelled),
            Reflector(api, calico.blocks(group, node), self._on_blocks, self._blocks),
            Reflector(api, calico.pools(group), self._on_pools, self._pools),
        ]
        self._reflectors = watches
        words = ""
        try:
            async with asyncio.TaskGroup() as tasks:
                for each in watches:
                    tasks.create_task(each.run(), name=each.kind.path)
                if self._whereabouts is not None:
                    tasks.create_task(self._whereabouts.follow(api), name="nodes")
        except* Absent as gone:
            words = str(_first(gone))
        self._lost(words)

    # --- facts -------------------------------------------------------------------------------------------------------
    def _on_labelled(self, changes: dict[str, Affinity | None]) -> None:
        for name, value in changes.items():
            self._ipam.affinity(name, value)
        self._tell()

    def _on_unlabelled(self, changes: dict[str, Affinity | None]) -> None:
        """One that is gone from here has perhaps only got its label."""
        for name, value in changes.items():
            if name not in self._labelled:
                self._ipam.affinity(name, value)
        self._tell()

    def _on_blocks(self, changes: dict[str, Block | None]) -> None:
        for name, value in changes.items():
            self._ipam.block(name, value)
        if self._whereabouts is not None:
            self._whereabouts.on_blocks(changes)
        self._tell()

    def _on_pools(self, changes: dict[str, Pool | None]) -> None:
        for name, value in changes.items():
            self._ipam.pool(name, value)
        self._tell()

    # --- telling -----------------------------------------------------------------------------------------------------
    def _lost(self, problem: str) -> None:
        self._reflectors = []
        self._problem = problem
        self._tell()

    def _tell(self) -> None:
        """Deliver what follows now. Nothing is wanted before every kind was read once."""
        problem = next((each.problem for each in self._reflectors if each.problem), None)
        if not self._reflectors:
            problem = self._problem
        if self._whereabouts is not None:
            self._whereabouts.heard(problem)
        self._synced = self._synced or (bool(self._reflectors) and all(each.synced for each in self._reflectors))
        if not self._synced:
            self._hand_over(Blocks("calico", SourceState.WAITING, problem or "reading Calico's IPAM"))
            return
        own = self._ipam.own()
        before = self._delivered.blocks if self._delivered is not None else frozenset()
        reason = self._ipam.reason(own) + self._unreadable() + self._unlocated()
        state = SourceState.SYNCED
        if problem is not None:
            state, reason = SourceState.STALE, f"{problem}: going on with {reason}"
        gone = before - own.blocks if state is SourceState.STALE else frozenset()
        self._hand_over(
            Blocks("calico", state, reason, own.blocks, gone=gone, pools=self._ipam.pools(), withheld=own.withheld)
        )

    def _unreadable(self) -> str:
        found = [(name, why) for each in self._reflectors for name, why in each.unreadable.items()]
        if not found:
            return ""
        words = "; ".join(f"{name}: {why}" for name, why in found[:SHOWN])
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        return f"; objects that cannot be read keep their last good value: {words}{more}"

    def _unlocated(self) -> str:
        problem = self._whereabouts.problem if self._whereabouts is not None else None
        return f"; on which nodes the blocks are is not known: {problem}" if problem is not None else ""

    def _hand_over(self, blocks: Blocks) -> None:
        if blocks != self._delivered:
            self._delivered = blocks
            self._deliver(blocks)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception in a group of groups."""
    first: BaseException = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _given(pools: Iterable[Prefix]) -> PrefixSet | None:
    return PrefixSet(pools) or None

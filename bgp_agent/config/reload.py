"""What differs between two configs, and what of it takes effect without a restart.

The tables below are the only place that says which key reloads live: the agent, ``/status`` and
docs/reference/configuration.md read them. A key in neither table is a defect that a test finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bgp_agent.config.model import Config, Peer, Section

LIVE: Final[Mapping[str, str]] = {
    "pools": "learned routes and own blocks are judged again",
    "blocks.path": "the new file is watched",
    "bgp.graceful_restart": "every session starts again, one after the other",
    "bgp.graceful_shutdown": "drains that begin from now on",
    "bgp.stale_time": "paths that become stale from now on",
    "bgp.hold_time": "every session starts again, one after the other",
    "bgp.allow_own_as": "learned routes are judged again",
    "bgp.peers": "peers are added, removed and changed one by one; the others' sessions stay",
    "import.refuse": "learned routes are judged again",
    "kernel.max_paths": "routes with several next hops are chosen again",
    "fallback.mode": "at once",
    "fallback.min_peers": "at once",
    "fallback.after": "timers that start from now on",
    "fallback.revert_after": "timers that start from now on",
    "probe.mode": "the listener, its rule and its route come or go",
    "probe.port": "the listener moves",
    "log.level": "at once",
}
"""Keys that reload live, and what happens then."""

RESTART: Final[Mapping[str, str]] = {
    "node.name": "it is in the names of shared objects",
    "node.address": "it is the identity of every session",
    "node.address6": "it is the next hop of what is announced",
    "blocks.source": "another source is another truth",
    "bgp.asn": "it is the identity of every session",
    "bgp.router_id": "it is the identity of every session",
    "speaker.spawn": "it is read when the agent starts",
    "speaker.user": "it is read when the speaker starts",
    "speaker.stop_timeout": "it is read when the speaker starts",
    "kernel.table": "routes are known as ours by it",
    "kernel.protocol": "routes are known as ours by it",
    "kernel.metric": "routes are known as ours by it",
    "kernel.install": "it is read when the agent starts",
    "kernel.blackhole": "it is read when the agent starts",
    "azure": "the cloud is discovered when the agent starts",
    "kubernetes.kubeconfig": "it is read when the agent starts",
    "kubernetes.context": "it is read when the agent starts",
    "kubernetes.owners": "it is read when the agent starts",
    "http.listen": "the end point is opened when the agent starts",
    "http.metrics_listen": "the end point is opened when the agent starts",
    "state_dir": "sockets and lock stand there",
    "log.format": "it is read when the agent starts",
}
"""Keys that need a restart of the agent, and why."""


@dataclass(frozen=True, slots=True)
class Changes:
    """The difference between two configs.

    ``config`` is what is in force from now on: the new config, with the old values of the keys in ``restart``.
    """

    config: Config
    live: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    peers_added: tuple[Peer, ...] = ()
    peers_removed: tuple[str, ...] = ()  # addresses
    peers_changed: tuple[Peer, ...] = ()  # as they are now

    def __bool__(self) -> bool:
        return bool(self.live or self.restart)

    @property
    def sessions(self) -> bool:
        """Does every session need its neighbour definition anew."""
        return bool({"bgp.graceful_restart", "bgp.hold_time"} & set(self.live))


def changes(old: Config, new: Config) -> Changes:
    """Compare two loaded configs. ``old`` is the one in force; both with ``node.address`` filled in, or neither."""
    differing = [key for key in (*LIVE, *RESTART) if _at(old, key) != _at(new, key)]
    restart = tuple(key for key in differing if key in RESTART)
    if (old.azure is None) != (new.azure is None):  # the fallback's defaults hang on it, and it needs a restart
        restart += tuple(key for key in differing if key.startswith("fallback."))
    before = {peer.address: peer for peer in old.bgp.peers}
    after = {peer.address: peer for peer in new.bgp.peers}
    return Changes(
        config=_keep(old, new, restart),
        live=tuple(key for key in differing if key not in restart),
        restart=restart,
        peers_added=tuple(peer for address, peer in after.items() if address not in before),
        peers_removed=tuple(address for address in before if address not in after),
        peers_changed=tuple(p for address, p in after.items() if address in before and before[address] != p),
    )


def leaves() -> list[str]:
    """Every key of the file that reloads as one, as dotted text."""
    found = []
    for name, field in Config.model_fields.items():
        top = field.alias or name
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            found += [f"{top}.{leaf}" for leaf in section.model_fields]
        else:
            found.append(top)
    return found


def _at(config: Config, key: str) -> object:
    value: object = config
    for part in key.split("."):
        value = getattr(value, "imports" if part == "import" else part)
    return value


def _keep(old: Config, new: Config, keys: tuple[str, ...]) -> Config:
    """``new`` with ``old``'s values at ``keys``."""
    update: dict[str, object] = {}
    for key in keys:
        section, _, leaf = key.partition(".")
        if not leaf:
            update[section] = _at(old, key)
            continue
        current = update.get(section, getattr(new, section))
        if isinstance(current, Section):
            update[section] = current.model_copy(update={leaf: _at(old, key)})
    return new.model_copy(update=update) if update else new

"""The configuration in force: from the file, with the node's own address found, and reloaded while the agent runs.

A bad new file keeps the last good one. Keys that cannot change while the agent runs keep their values, and ``/status``
names them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Final

import structlog

from bgp_agent import translate
from bgp_agent.config import (
    Changes,
    Config,
    ConfigError,
    Found,
    Loaded,
    UnreadableError,
    changes,
    load,
    with_address,
    with_found,
)
from bgp_agent.core.prefix import Prefix, prefix_text
from bgp_agent.log import set_level
from bgp_agent.passwords import Passwords
from bgp_agent.reporting import Identity
from bgp_agent.speaker.definition import PeerDefinition

log: Final = structlog.get_logger("bgp_agent")


class Configuration:
    """What was loaded and what of it is in force. ``identity`` is kept up to date for ``/status``."""

    def __init__(self, loaded: Loaded, environ: Mapping[str, str]) -> None:
        self.loaded = loaded
        self.config = loaded.config
        self.identity = Identity(loaded.config.node.name or "", str(loaded.path))
        self.located = False  # is the node's own address known
        self._found: Found | None = None
        self._pools: tuple[str, ...] = ()  # that the source told
        self._unread = False
        self._environ = environ
        self._passwords = Passwords()

    def discovered(self, found: Found) -> bool:
        """Azure told something: fill it in where the file says nothing; is anything different now.

        The node's address and AS number are the identity of every session: once in use, they stay until a restart.
        """
        self._found = found
        filled = self._filled()
        if self.located:
            filled = with_address(filled, lambda _: self.config.node.address or "")
        before = self.config
        self.config = changes(before, filled).config if self.located and before.bgp.asn is not None else filled
        if self.located:
            self._identify()
        return self.config != before

    def _filled(self) -> Config:
        """The file, with what was told in the places that it leaves open."""
        config = self.loaded.config if self._found is None else with_found(self.loaded.config, self._found)
        return config if config.pools else config.model_copy(update={"pools": self._pools})

    def sourced(self, pools: Iterable[Prefix]) -> bool:
        """The block source told where pods live: that counts where the file does not say; is anything different now."""
        self._pools = tuple(map(prefix_text, sorted(pools)))
        if self.loaded.config.pools or self.config.pools == self._pools:
            return False
        self.config = self.config.model_copy(update={"pools": self._pools})
        return True

    @property
    def unlocated(self) -> str:
        """What the node's address waits for."""
        if self.config.azure is not None and not self.config.bgp.peers:
            return "Azure has not told the node's address yet; node.address sets it"
        return "there is no route to the first peer"

    def locate(self) -> bool:
        """Find the node's own address, towards the first peer; False while that is not to be had.

        With Azure the address and the peers may have to be discovered first.
        """
        config = self.config
        if config.azure is not None and not config.bgp.peers and (self._found is None or config.node.address is None):
            return False
        try:
            self.config = with_address(self.config)
        except OSError:
            return False
        self.located = True
        self._identify()
        return True

    def _identify(self) -> None:
        self.identity.address, self.identity.address6 = self.config.node.address or "", self.config.node.address6

    @property
    def unread(self) -> bool:
        """Is there a file that could not be read when it changed; it is worth another try."""
        return self._unread or bool(self._passwords.lost)

    def reload(self) -> Changes | None:
        """Read the file again; None when it is refused. What may change now is in force when this returns."""
        identity = self.identity
        try:
            self.loaded = load(self.loaded.path, self._environ)
        except ConfigError as error:
            self._unread = isinstance(error, UnreadableError)
            identity.config_problem = str(error)
            identity.reload_failures += 1
            log.error("the new configuration is refused; the last good one goes on", reason=str(error))  # noqa: TRY400
            return None
        self._unread, identity.config_problem = False, None
        identity.config_loaded = time.time()
        new = self._filled()
        if self.located:  # the address that is in use stays: it is the identity of every session
            new = with_address(new, lambda _: self.config.node.address or "")
        changed = changes(self.config, new)
        self.config = changed.config
        if changed.restart and changed.restart != identity.restart_needed:
            log.warning("changed keys that need a restart keep their old values", keys=list(changed.restart))
        identity.restart_needed = changed.restart
        if changed.live:
            log.info("configuration reloaded", changed=list(changed.live))
            set_level(self.config.log.level)
        return changed

    def definitions(self) -> dict[str, PeerDefinition]:
        """What each peer's ExaBGP is to be configured with. A password file that is lost is said once."""
        lost = tuple(self._passwords.lost.values())
        definitions = translate.definitions(self.config, self._passwords)
        for sentence in self._passwords.lost.values():
            if sentence not in lost:
                log.warning(sentence)
        if self._passwords.lost:
            self.identity.config_problem = "; ".join(self._passwords.lost.values())
        return definitions

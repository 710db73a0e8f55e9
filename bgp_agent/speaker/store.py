"""The peers that the host knows, kept on disk so that it can start their ExaBGPs without an agent."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from bgp_agent.speaker.definition import DefinitionError, PeerDefinition
from bgp_agent.speaker.files import write_private
from bgp_agent.speaker.remedies import unwritable

#: Bytes; far above what any number of peers takes.
_MOST: Final = 4 * 1024 * 1024


def load(path: Path) -> tuple[list[PeerDefinition], list[str]]:
    """The definitions in ``path`` and what is wrong with those that cannot be used. No file: none. Never raises."""
    try:
        if path.stat().st_size > _MOST:
            return [], [f"{path} is larger than {_MOST} bytes; ignored until an agent hands its peers over"]
        entries = list(json.loads(path.read_bytes())["peers"])
    except FileNotFoundError:
        return [], []
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return [], [f"{path} cannot be read as a list of peers; ignored until an agent hands its peers over"]
    good: list[PeerDefinition] = []
    bad: list[str] = []
    for entry in entries:
        try:
            good.append(PeerDefinition.from_json(entry))
        except DefinitionError as error:
            bad.append(f"{path}: {error}")
    return good, bad


def save(path: Path, peers: Iterable[PeerDefinition]) -> None:
    """Keep these, in a file for its owner alone: it holds passwords. Raises :class:`OSError`."""
    body = {"peers": [peer.to_json() for peer in sorted(peers, key=lambda peer: peer.address)]}
    write_private(path, json.dumps(body).encode())


class Store:
    """The file at ``path`` as the host keeps it. ``problem``: why it is not what it shall be; then save once more."""

    def __init__(self, path: Path, log: logging.Logger) -> None:
        self.path = path
        self.problem: str | None = None
        self._log = log

    def save(self, peers: Iterable[PeerDefinition]) -> None:
        """Keep these, or say once why that cannot be."""
        before, self.problem = self.problem, None
        try:
            save(self.path, peers)
        except OSError as error:
            self.problem = unwritable(self.path.parent, error.strerror or str(error))
        if self.problem is not None and self.problem != before:
            self._log.error("the peers cannot be kept for the next start: %s", self.problem)
        elif self.problem is None and before is not None:
            self._log.warning("the peers are kept for the next start again")

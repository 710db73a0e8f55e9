"""What was discovered last, kept in ``state_dir``: an agent that starts while Azure does not answer goes on with it.

Only what the agent could not go on without: who it is, its peers, where the route tables are. It is a memory, not the
truth: the first discovery that answers takes its place. A file that cannot be read or written costs nothing but that.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import msgspec
import structlog

from bgp_agent.cloud.ids import resource_id
from bgp_agent.core.prefix import parse_address

log: Final = structlog.get_logger("bgp_agent")

FILE: Final = "azure.json"
MAX_BYTES: Final = 256 * 1024


Asn: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]


class Remembered(msgspec.Struct, frozen=True):
    """Addresses as text, IDs as Azure writes them. ``peers``: of the Route Server; ``asn``: ours."""

    address: str | None = None
    address6: str | None = None
    asn: Asn | None = None
    server: str | None = None
    server_asn: Asn | None = None
    peers: tuple[str, ...] = ()
    connection: str | None = None
    tables: tuple[str, ...] = ()
    interface: str | None = None
    alone: str | None = None
    environment: str | None = None

    def __post_init__(self) -> None:
        """Raise :class:`ValueError` for what no discovery would have found."""
        for address in (self.address, self.address6, *self.peers):
            if address is not None:
                parse_address(address)
        for each in (self.server, self.connection, self.interface, *self.tables):
            if each is not None:
                resource_id(each)


def load(folder: Path) -> Remembered | None:
    """The last discovery; None without one that can be read."""
    path = folder / FILE
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(MAX_BYTES), type=Remembered)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, ValueError, RecursionError) as error:
        log.warning("what was discovered last cannot be read; Azure is asked anew", path=str(path), reason=str(error))
        return None


def save(folder: Path, found: Remembered) -> None:
    """Keep it for the next start. A failure is said, and is no more than that."""
    path, new = folder / FILE, folder / f"{FILE}.new"
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(msgspec.json.encode(found))
        new.replace(path)
    except OSError as error:
        log.warning("what was discovered cannot be kept for the next start", path=str(path), reason=str(error))

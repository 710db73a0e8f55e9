"""Other people's BGP daemons as a node's neighbour, all behind one interface: what the interop suite is run against."""

from typing import Final

from lab.neighbours.bird import Bird
from lab.neighbours.frr import Frr
from lab.neighbours.gobgp import GoBgp
from lab.neighbours.openbgpd import OpenBgpd
from lab.neighbours.plan import Neighbour

NEIGHBOURS: Final[tuple[type[Neighbour], ...]] = (Bird, Frr, GoBgp, OpenBgpd)

__all__ = ["NEIGHBOURS", "Neighbour"]

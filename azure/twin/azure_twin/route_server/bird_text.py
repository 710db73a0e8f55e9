"""BIRD 2 as one Route Server instance: the configuration it gets and the answers it gives.

What each line is for:

- ``multihop`` makes the next hop of what is reflected the instance itself; ``strict bind`` keeps it to its own address.
- ``graceful restart off``: Route Server announces none (capabilities 1, 2, 65, 70), and no End-of-RIB comes.
- ``error wait time`` and the like: BIRD would refuse a peer for minutes after an error.
- the ``igp4`` table resolves third-party next hops, so that they stay in the table as announced.
- ``interpret communities off`` with the export filter: no-advertise is withheld, no-export is reflected, 65517:65517
is added.
- the ``kept`` filter takes an UPDATE, as the session's counters show, and keeps nothing of the prefixes that are to be
lacked; when it changes, BIRD asks its peers for their routes again (RFC 2918) and no session ends.
- ``import limit 0 action disable`` ends a session as Route Server's limit does: NOTIFICATION 6/1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from azure_twin.core.learned import Learned

ASN: Final = 65515
_PAIR: Final = re.compile(r"\((\d+),\s*(\d+)\)")
_ROUTE: Final = re.compile(r"^(?P<prefix>\S+)?\s+\S+ \[(?P<name>\S+) [^\]]*?from (?P<peer>[\d.]+)\](?P<best> \*)?")


@dataclass(frozen=True, slots=True)
class Peer:
    """A configured peer. ``blocked``: it is over its limit, and its session ends at its next route."""

    address: str
    asn: int
    etag: str = ""
    blocked: bool = False

    @property
    def protocol(self) -> str:
        """Its name in BIRD."""
        return protocol_of(self.address)


def protocol_of(address: str) -> str:
    """The BIRD protocol of a peer."""
    return "p" + address.replace(".", "_")


def configuration(
    address: str, gateway: str, peers: Iterable[Peer], prefixes: Iterable[str], lacks: Iterable[str] = (), *,
    mrt: str, log: str,
) -> str:  # fmt: skip
    """The whole configuration file of the instance with this address; ``lacks``: prefixes that it does not keep."""
    vnet = "\n".join(f"  route {prefix} blackhole;" for prefix in prefixes)
    missing = ", ".join(lacks)
    lacked = f"  if net ~ [ {missing} ] then reject;\n" if missing else ""
    head = f"""log "{log}" {{ info, remote, warning, error, auth, fatal, bug }};
router id {address};
mrtdump "{mrt}";
mrtdump protocols {{ messages, states }};
ipv4 table igp4;
protocol device {{ scan time 60; }}
protocol direct {{ ipv4 {{ table igp4; }}; }}
protocol static fabric {{ ipv4 {{ table igp4; }}; route 0.0.0.0/0 via {gateway}; }}
protocol static vnet {{
  ipv4;
{vnet}
}}
filter kept {{
{lacked}  accept;
}}
filter reflect {{
  if source = RTS_STATIC then accept;
  if (65535, 65282) ~ bgp_community then reject;
  bgp_community.add((65517, 65517));
  accept;
}}
"""
    return head + "".join(_peer(address, each) for each in peers)


def _peer(address: str, peer: Peer) -> str:
    limit = "import limit 0 action disable; " if peer.blocked else ""
    return f"""protocol bgp {peer.protocol} {{
  local {address} as {ASN};
  neighbor {peer.address} as {peer.asn};
  strict bind on;
  multihop;
  hold time 180; keepalive time 60;
  graceful restart off; long lived graceful restart off;
  interpret communities off;
  connect delay time 1; connect retry time 5; error wait time 1, 1; error forget time 1;
  ipv4 {{ igp table igp4; import filter kept; {limit}export filter reflect; }};
  ipv6 {{ import none; export none; }};
}}
"""


def routes(lines: Iterable[str]) -> list[Learned]:
    """The BGP routes in the lines of ``show route all``."""
    return [_learned(head, attributes) for head, attributes in _blocks(lines)]


def _blocks(lines: Iterable[str]) -> Iterator[tuple[re.Match[str], dict[str, str]]]:
    prefix, head, attributes = "", None, dict[str, str]()
    for line in lines:
        if not line.startswith("\t"):
            found = _ROUTE.match(line)
            if head is not None:
                yield head, attributes | {"prefix": prefix}
            head, attributes = found, {}
            named = line.split(" ", 1)[0]
            prefix = named or prefix
        elif head is not None and ": " in line:
            name, _, value = line.strip().partition(": ")
            attributes[name] = value
    if head is not None:
        yield head, attributes | {"prefix": prefix}


def _learned(head: re.Match[str], attributes: dict[str, str]) -> Learned:
    path = tuple(int(each) for each in re.findall(r"\d+", attributes.get("BGP.as_path", "")))
    communities = tuple((int(a), int(b)) for a, b in _PAIR.findall(attributes.get("BGP.community", "")))
    hop = attributes.get("BGP.next_hop", head["peer"]).split()[0]
    return Learned(attributes["prefix"], head["peer"], hop, path, communities, head["best"] is not None)


def states(lines: Iterable[str]) -> dict[str, str]:
    """The BGP state of each peer's protocol in the lines of ``show protocols``."""
    found = {}
    for line in lines:
        words = line.split()
        if len(words) >= 5 and words[1] == "BGP":
            found[words[0]] = words[5] if len(words) > 5 else words[3]
    return found

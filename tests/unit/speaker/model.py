"""A small ExaBGP for tests: commands in, answers out, as the real one was seen to behave (5.0.15).

It asserts what a good agent never does: two unanswered commands for one prefix, or a line that is too long. Commands
that need a session are refused at once when there is none, before the answers to what came earlier.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable

_CHANGE = re.compile(
    r"neighbor 10\.99\.1\.2 (?P<verb>announce|withdraw) attributes next-hop (?P<hop>\S+)"
    r"(?: med (?P<med>\d+))?(?: community (?P<community>\[ [^]]* \]))?(?: large-community (?P<large>\[ [^]]* \]))?"
    r"(?: as-path \[ (?P<path>[\d ]+) \])? nlri (?P<nlri>.+)"
)
_LONE = re.compile(r"neighbor 10\.99\.1\.2 announce (?P<what>eor|route-refresh) (?P<family>ipv[46]) unicast")
_NAME = "neighbor 10.99.1.2 local-ip 10.99.1.1 local-as 65001 peer-as 65515 router-id 10.99.1.1 family-allowed in-open"
_ENVELOPE = (
    '{ "exabgp": "5.0.0", "time": %s, "host" : "vm", "pid" : 1, "ppid" : 1, "counter": 1, "type": "%s", "neighbor": '
    '{ "address": { "local": "10.99.1.1", "peer": "10.99.1.2" }, "asn": { "local": 65001, "peer": 65515 }, '
    '"router-id": "10.99.1.1" , %s } }'
)
_CAPABILITIES = (
    '"1": { "name": "multiprotocol", "families": [ "ipv4/unicast" ] }, '
    '"2": { "name": "route-refresh", "variant": "RFC" }, "70": { "name": "enhanced-route-refresh" }, '
    '"64": { "name": "graceful restart", "time": 120, "address-family-flags": { }, "restart-flags": [ ] }'
)
_OPEN = f'"version": 4, "asn": 65515, "hold_time": 90, "router_id": "10.99.1.2", "capabilities": {{ {_CAPABILITIES} }}'
OPEN = (_ENVELOPE % (1000.0, "open", f'"direction": "receive", "open": {{ {_OPEN} }}')).encode()


def state_line(state: str, reason: str | None = None, at: float = 1000.0) -> bytes:
    """A line of type ``state``."""
    words = f'"state": "{state}"' + ("" if reason is None else f', "reason": "{reason}"')
    return (_ENVELOPE % (at, "state", words)).encode()


def update_line(message: str, at: float = 1000.0) -> bytes:
    """A received ``update`` with this ``message``."""
    return (_ENVELOPE % (at, "update", f'"direction": "receive", "message": {message}')).encode()


class ExaBgp:
    """One process: what it holds, what it has still to answer, what it printed."""

    def __init__(self) -> None:
        self.rib: dict[str, str] = {}
        self.poison: set[str] = set()
        self.established = False
        self.queue: deque[str] = deque()
        self.output: deque[bytes] = deque()
        self.commands: list[str] = []
        self.updates = 0
        self.wire: list[str] = []  # what the peer was sent besides routes

    def read(self, lines: Iterable[bytes]) -> None:
        """Take command lines from the pipe."""
        for raw in lines:
            line = raw.decode("ascii")
            assert line.endswith("\n")
            line = line.rstrip("\n")
            self.commands.append(line)
            assert len(self.queue) < 4, f"more than four unanswered: {[*self.queue, line]}"
            if _LONE.fullmatch(line) and not self.established:
                self.output.append(b"error")
                continue
            change = _CHANGE.fullmatch(line)
            if change is not None:
                prefixes = change["nlri"].split()
                assert len(prefixes) <= 50
                assert len(set(prefixes)) == len(prefixes)
                for waiting in self.queue:
                    other = _CHANGE.fullmatch(waiting)
                    assert other is None or not set(prefixes) & set(other["nlri"].split()), (
                        "two unanswered for a prefix"
                    )
            else:
                assert line == "show adj-rib out extensive" or _LONE.fullmatch(line), line
            self.queue.append(line)

    def step(self) -> bool:
        """Answer the oldest command; False when there is none."""
        if not self.queue:
            return False
        line = self.queue.popleft()
        if line.startswith("show"):
            self.output.extend(f"{_NAME} {route}".encode() for route in self.rib.values())
            self.output.append(b"done")
        elif (lone := _LONE.fullmatch(line)) is not None:
            self.wire.append(f"{lone['what']} {lone['family']}")
            self.output.append(b"done")
        else:
            self.output.append(self._change(line))
        return True

    def _change(self, line: str) -> bytes:
        change = _CHANGE.fullmatch(line)
        assert change is not None
        prefixes = change["nlri"].split()
        if self.poison.intersection(prefixes):
            return b"error"
        for prefix in prefixes:
            before = self.rib.pop(prefix, None)
            if change["verb"] == "announce":
                self.rib[prefix] = self._route(prefix, change)
            self.updates += before != self.rib.get(prefix) or change["verb"] == "withdraw"
        return b"done"

    def _route(self, prefix: str, change: re.Match[str]) -> str:
        hop = "10.99.1.1" if change["hop"] == "self" else change["hop"]
        text = f"{'ipv6' if ':' in prefix else 'ipv4'} unicast {prefix} next-hop {hop}"
        if change["path"]:
            text += f" as-path ( {change['path']} )"
        if change["med"]:
            text += f" med {change['med']}"
        for name, key in (("community", "community"), ("large-community", "large")):
            if change[key]:
                words = change[key].strip("[ ]").split()
                text += f" {name} {words[0] if len(words) == 1 else change[key]}"
        return text

    def up(self) -> None:
        """The session is established; what is held goes out."""
        self.established = True
        self.wire.clear()
        self.output += [OPEN, state_line("up")]

    def down(self) -> None:
        """The session, or an attempt at one, ends."""
        self.established = False
        self.output.append(state_line("down", "closing connection"))

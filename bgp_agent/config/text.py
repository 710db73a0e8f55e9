"""The config as text: what is in force, what the defaults are, and a commented file to start from."""

from __future__ import annotations

import re
from typing import Final

import yaml

from bgp_agent.config.model import Config, Section
from bgp_agent.config.scalars import duration_text
from bgp_agent.config.yaml12 import plain

_CREDENTIALS: Final = re.compile(r"(?<=://)[^/@\s]+@")


class _Dumper(yaml.SafeDumper):
    """Writes what YAML 1.2 and 1.1 readers understand alike: text that either takes for something else is quoted."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = None if isinstance(plain(value), str) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def effective(config: Config) -> str:
    """The config in force as YAML that loads again as the same config. Credentials in URLs are masked."""
    return yaml.dump(_plain(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def defaults() -> str:
    """Every key with its default, as YAML; names, addresses and AS numbers have none. A peer is shown by example.

    With a cloud: without one there are no keys of ``azure``, and the fallback is off whatever stands there.
    """
    peers = [{"address": "10.42.0.4", "asn": 65515}]
    example = Config.model_validate({"bgp": {"asn": 64512, "peers": peers}, "azure": {}})
    text = yaml.dump(_plain(example), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return "# without the section azure: no cloud, fallback.mode off, fallback.min_peers 1\n" + text


def _plain(section: Section) -> dict[str, object]:
    """A section as YAML has it: durations as text, lists as lists, ``import`` by its own name."""
    shown: dict[str, object] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if name == "azure" and value is None:
            continue  # absent is the way to say "off"
        shown[field.alias or name] = _value(value)
    return shown


def _value(value: object) -> object:
    if isinstance(value, Section):
        return _plain(value)
    if isinstance(value, tuple):
        return [_value(item) for item in value]
    if isinstance(value, float):
        seconds = duration_text(value)
        return 0 if seconds == "0" else seconds
    if isinstance(value, str):
        return _CREDENTIALS.sub("***@", value)
    return value


def init_text() -> str:
    """A commented config: loads as it stands, every key is in it, those with a default as a comment that shows it."""
    return _INIT


_INIT: Final = """\
# bgp-agent, on every node. All keys: docs/reference/configuration.md.
# `bgp-agent check` validates this file; a running agent takes a good change at once and keeps the last good config
# when it meets a bad one. A commented line shows the default.

# The pods' address space. Only prefixes inside it are announced, learned and installed.
pools:
- 192.168.0.0/16

# Which blocks this node owns. The file holds, and is watched for, lines such as
#   blocks: [{cidr: 192.168.1.0/26}]
blocks:
  source: file                  # file | calico | node
  path: blocks.yaml             # relative paths count from the folder of this file

bgp:
  asn: 64512                    # this node's AS number
  # router_id: 10.42.1.4        # an IPv4 address; default: node.address
  # graceful_restart: 120s      # 0 turns it off
  # graceful_shutdown: 2s       # a drain's notice to peers, so that they move to other paths first; 0: none
  # stale_time: 120s            # how long a lost session's routes stay; 0 drops them at once
  # hold_time: 30s
  # allow_own_as: 1             # nodes that share one AS number see it in each other's paths
  peers:
  - address: 10.42.0.4          # a router, or an instance of Azure Route Server
    asn: 65515
    # port: 179
    # multihop: 8               # TTL towards the peer
    # ttl_security: null        # GTSM: hops to the peer, 1 on the same link; instead of multihop
    # passive: false
    # password_file: null       # a file with the TCP-MD5 key
    # families: [ipv4]          # default: the family of the address
    # max_prefixes: 4000        # what is above is refused, the session stays
    # warn_prefixes: null
    # announce_limit: null      # what is above is withheld; 2000 for a Route Server
    # med: null
    # communities: []           # 64512:10, 64512:1:10 or no-export
    # prepend: 0
  - address: 10.42.0.5
    asn: 65515

# node:
#   name: node-a                # default: $NODE_NAME or the host name
#   address: 10.42.1.4          # default: the source address towards the first peer
#   address6: null

# import:
#   refuse: []                  # prefixes that are never taken from a peer

# speaker:
#   spawn: true                 # `run` starts a speaker when none answers
#   user: null                  # who ExaBGP runs as; default: whoever starts it
#   stop_timeout: 150s

# kernel:
#   table: 254                  # main
#   protocol: 179               # routes with this protocol and metric are ours
#   metric: 4096                # above those of Felix and BIRD, whose routes win
#   install: true
#   blackhole: true             # for own blocks, so that stray packets do not loop
#   max_paths: 8

# Azure: leave the section out for off; {} discovers everything.
# azure:
#   route_server: null
#   route_tables: []
#   manage_peering: false
#   settle: 30s
#   arm_url: null
#   imds_url: null
#   allow_http: false

# fallback:
#   mode: standby               # off | standby | always; without azure: off
#   min_peers: all              # without azure: 1
#   after: 10s
#   revert_after: 60s

# probe:
#   mode: auto                  # auto | off
#   port: 61179

# kubernetes:                   # for blocks.source: calico and node
#   kubeconfig: null            # default: in-cluster, then $KUBECONFIG
#   context: null
#   owners: true                # routes straight at the node that has the block, where a peer put itself in between

# http:
#   listen: 127.0.0.1:9179      # status, metrics and the page; read-only
#   metrics_listen: null        # a second end point with metrics and health alone

# state_dir: /run/bgp-agent

# log:
#   level: info                 # debug | info | warning | error
#   format: console             # console | json
"""

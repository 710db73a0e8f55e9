"""The config as the file has it: names, defaults, what each key means.

These names are the contract with users. Every model is frozen and strict (a number is not taken for a text, nor a text
for a number), unknown keys are refused. What needs more than one key to judge is in :mod:`bgp_agent.config.checks`.
Durations are seconds; addresses, prefixes and communities are canonical text.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from bgp_agent.config.scalars import (
    Address,
    Address4,
    Address6,
    Asn,
    Community,
    Duration,
    Listen,
    ListOf,
    Prefix,
    Text,
    Url,
    to_tuple,
)

Port = Annotated[int, Field(ge=1, le=65535)]
Word = Literal["ipv4", "ipv6"]


def _hops(value: object) -> object:
    """``true`` is the plain form of GTSM: one hop (RFC 5082); ``false`` is off."""
    return {True: 1, False: None}[value] if isinstance(value, bool) else value


def _min_peers(value: object) -> object:
    if value == "all" or (type(value) is int and 1 <= value <= 1000):
        return value
    raise ValueError("write all, or a number of peers from 1 up")


class Section(BaseModel):
    """What all parts of the config have in common."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        populate_by_name=False,
        hide_input_in_errors=True,
        protected_namespaces=(),
    )


class Node(Section):
    """Who this node is."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$")] | None = Field(
        None, description="The node's name. Default: `$NODE_NAME`, else the host name."
    )
    address: Address | None = Field(
        None, description="The address that the node speaks from. Default: the source address towards the first peer."
    )
    address6: Address6 | None = Field(
        None, description="The node's IPv6 address: the next hop of IPv6 blocks on an IPv4 session."
    )


class BlockSource(Section):
    """Where the node's own blocks are read from."""

    source: Literal["file", "calico", "node"] = Field(
        "file", description="`file`: a watched file; `calico`: block affinities; `node`: the Node's podCIDRs."
    )
    path: Text = Field("blocks.yaml", description="The file of the `file` source.")


class Peer(Section):
    """One BGP neighbour."""

    address: Address = Field(description="The peer's address. Each peer stands here once.")
    asn: Asn = Field(description="The peer's AS number.")
    port: Port = Field(179, description="The TCP port the peer listens on.")
    ttl_security: Annotated[
        Annotated[int, Field(ge=1, le=254)] | None,
        BeforeValidator(_hops),
        WithJsonSchema(
            {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 254}, {"type": "boolean"}, {"type": "null"}]}
        ),
    ] = Field(
        None,
        description="GTSM (RFC 5082): how many hops away the peer may be, 1 for a neighbour on the link; `true` is 1.",
    )
    multihop: Annotated[int, Field(ge=1, le=255)] | None = Field(
        default_factory=lambda read: None if read.get("ttl_security") else 8,
        description="TTL of outgoing packets; null leaves it to the kernel. Not together with `ttl_security`.",
        json_schema_extra={"default": 8},
    )
    passive: bool = Field(default=False, description="Wait for the peer to connect, never connect.")
    password_file: Text | None = Field(
        None,
        description="A file with the TCP-MD5 key (RFC 2385). One trailing newline is dropped; the file is watched.",
    )
    families: Annotated[tuple[Word, ...], Field(min_length=1, max_length=2), BeforeValidator(to_tuple)] = Field(
        default_factory=lambda read: ("ipv6",) if ":" in read.get("address", "") else ("ipv4",),
        description="Address families: `ipv4`, `ipv6`. Default: the family of the address.",
    )
    max_prefixes: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        4000, description="Prefixes taken from the peer; what is above is refused, the session stays up."
    )
    warn_prefixes: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        None, description="Warn from this number of prefixes on."
    )
    announce_limit: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        None,
        description="Prefixes announced to the peer at most; the rest is withheld. 2000 for an Azure Route Server.",
    )
    med: Annotated[int, Field(ge=0, le=0xFFFFFFFF)] | None = Field(
        None, description="MULTI_EXIT_DISC of what is announced."
    )
    communities: ListOf[Community] = Field(
        (), description="Communities of what is announced: `64512:10`, `64512:1:10`, `no-export`."
    )
    prepend: Annotated[int, Field(ge=0, le=32)] = Field(
        0, description="How many times the own AS number is added to the path, beyond the one that BGP adds."
    )


class Bgp(Section):
    """The BGP speaker."""

    asn: Asn | None = Field(None, description="The own AS number. Required, unless `azure` is present.")
    router_id: Address4 | None = Field(None, description="The BGP identifier. Default: `node.address`.")
    graceful_restart: Annotated[Duration, Field(le=4095)] = Field(
        120.0, description="Restart time that is announced (RFC 4724), whole seconds up to 4095s. 0 turns it off."
    )
    graceful_shutdown: Annotated[Duration, Field(le=120)] = Field(
        2.0,
        description="How long a block is announced with GRACEFUL_SHUTDOWN (RFC 8326) before a drain withdraws it, "
        "up to 120s. 0 withdraws at once.",
    )
    stale_time: Duration = Field(120.0, description="How long a lost session's paths stay. 0 drops them at once.")
    hold_time: Annotated[Duration, Field(le=65535)] = Field(
        30.0, description="Hold time that is proposed (RFC 4271 section 4.2): whole seconds, 0 (never) or from 3s."
    )
    allow_own_as: Annotated[int, Field(ge=0, le=10)] = Field(
        1, description="How often the own AS number may stand in a path that is accepted."
    )
    peers: ListOf[Peer] = Field((), description="The neighbours. At least one, unless `azure` is present.")


class Import(Section):
    """What is taken from peers, beyond the rules that always hold."""

    refuse: ListOf[Prefix] = Field((), description="Prefixes that are never taken, nor anything inside them.")


class Speaker(Section):
    """The process that runs ExaBGP."""

    spawn: bool = Field(default=True, description="`run` starts a speaker when none answers. Every package sets false.")
    user: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?$")] | None = Field(
        None, description="The user that ExaBGP runs as. Default: whoever starts it."
    )
    stop_timeout: Duration = Field(
        150.0, description="How long a stopping speaker waits for the fallback to be in effect."
    )


class Kernel(Section):
    """The kernel's routes. Ours are known by table, protocol and metric."""

    table: Annotated[int, Field(ge=1, le=0xFFFFFFFF)] = Field(254, description="Route table; 254 is main.")
    protocol: Annotated[int, Field(ge=5, le=255)] = Field(
        179, description="The routes' protocol number. 0 to 4 are the kernel's own."
    )
    metric: Annotated[int, Field(ge=1, le=0xFFFFFFFF)] = Field(4096, description="The routes' metric.")
    install: bool = Field(default=True, description="Write learned routes to the kernel.")
    blackhole: bool = Field(default=True, description="A blackhole route for each own block.")
    max_paths: Annotated[int, Field(ge=1, le=256)] = Field(8, description="Next hops of one route at most (ECMP).")


class Azure(Section):
    """Azure. Absent: off. `{}`: discover everything."""

    route_server: Text | None = Field(None, description="The Route Server's resource ID. Default: discovered.")
    route_tables: ListOf[Text] = Field((), description="Route tables' resource IDs. Default: discovered.")
    manage_peering: bool = Field(default=False, description="Keep the own bgpConnection, `bgp-agent-<node>`.")
    settle: Duration = Field(30.0, description="How long to wait where no proof can be had.")
    arm_url: Url | None = Field(None, description="Where ARM answers. Default: Azure's.")
    imds_url: Url | None = Field(None, description="Where IMDS answers. Default: Azure's.")
    allow_http: bool = Field(default=False, description="Take plain http for `arm_url`.")


class Fallback(Section):
    """The hand-over between BGP and the cloud's route table."""

    mode: Literal["off", "standby", "always"] = Field(
        "standby", description="`off`, `standby` or `always`. Without `azure`: off, whatever stands here."
    )
    min_peers: Annotated[
        int | Literal["all"],
        BeforeValidator(_min_peers),
        WithJsonSchema({"anyOf": [{"const": "all"}, {"type": "integer", "minimum": 1, "maximum": 1000}]}),
    ] = Field(
        "all", description="Established peers that are wanted: `all` or a number. Without `azure` the default is 1."
    )
    after: Duration = Field(10.0, description="How long peers may be missing before the fallback takes over.")
    revert_after: Duration = Field(60.0, description="How long BGP must be stable before it takes over again.")


class Probe(Section):
    """Asking the network with a packet who gets a block's traffic."""

    mode: Literal["auto", "off"] = Field("auto", description="`auto`: on where it can be set up; `off`.")
    port: Port = Field(61179, description="The TCP port of the handshake. The same on every node.")


class Kubernetes(Section):
    """The Kubernetes API, for the `calico` and `node` sources."""

    kubeconfig: Text | None = Field(None, description="Default: in-cluster, then `$KUBECONFIG`.")
    context: Text | None = Field(None, description="The kubeconfig's context. Default: its current one.")
    owners: bool = Field(
        default=True,
        description="With the `calico` source: where a peer put itself into a path as next hop, as a route server may, "
        "the route points straight at the node that has the block, if it is on-link. Off: always by the peer.",
    )


class Http(Section):
    """The read-only HTTP interface."""

    listen: Listen = Field("127.0.0.1:9179", description="Where status, metrics and the page are served.")
    metrics_listen: Listen | None = Field(
        None, description="A second end point with /metrics, /healthz and /readyz only."
    )


class Log(Section):
    """The log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="`debug`, `info`, `warning` or `error`."
    )
    format: Literal["console", "json"] = Field("console", description="`console` for people, `json` for programs.")


class Config(Section):
    """The whole file."""

    node: Node = Node()
    pools: ListOf[Prefix] = Field(
        (), description="The pods' address space. Required with the `file` source, unless `azure` is present."
    )
    blocks: BlockSource = BlockSource()
    bgp: Bgp = Bgp()
    imports: Import = Field(Import(), alias="import")  # `import` is a word of Python's
    speaker: Speaker = Speaker()
    kernel: Kernel = Kernel()
    azure: Azure | None = Field(None, description="Absent: off. `{}`: discover everything.")
    fallback: Fallback = Fallback()
    probe: Probe = Probe()
    kubernetes: Kubernetes = Kubernetes()
    http: Http = Http()
    state_dir: Text = Field("/run/bgp-agent", description="Sockets, lock and saved state. Created when missing.")
    log: Log = Log()

    @model_validator(mode="after")
    def _nothing_to_fall_back_to(self) -> Self:
        """Without a cloud the fallback is off, and one established peer is enough unless told otherwise."""
        if self.azure is None:
            fallback = self.fallback.model_copy()
            fallback.__dict__["mode"] = "off"  # the model is frozen for everybody else
            if "min_peers" not in fallback.model_fields_set:
                fallback.__dict__["min_peers"] = 1
            self.__dict__["fallback"] = fallback
        return self


SECTIONS: Final[dict[str, type[Section]]] = {
    field.alias or name: field.annotation
    for name, field in Config.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
} | {"azure": Azure}
"""The sections by the name they have in the file."""

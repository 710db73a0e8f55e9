"""The YAML file: what to build, on which addresses to listen, and every setting.

The file seeds an empty state. From then on ARM is the truth, and the file's resources are not looked at again
(``--fresh`` forgets).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Literal, cast

import msgspec
import yaml

from azure_twin.core.errors import Json
from azure_twin.core.imds import Vm
from azure_twin.core.settings import FAST, Limits, Rules, Settings, Throttling, Timing
from azure_twin.core.tokens import Identity

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")


class ConfigError(ValueError):
    """The file is not usable; the message has the file, the key and the reason."""


class _Strict(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Unknown keys are refused."""


class Listen(_Strict):
    """One address, with HTTPS if it has a certificate. ``control`` opens /twin there (default: loopback)."""

    address: str
    certificate: str | None = None
    key: str | None = None
    control: bool | None = None

    @property
    def controls(self) -> bool:
        """Whether /twin is open here: whoever reaches it can break things."""
        return self.address.startswith(("127.", "[::1]", "localhost")) if self.control is None else self.control


class SubnetConfig(_Strict):
    """A subnet."""

    name: str
    prefix: str
    route_table: str | None = None


class PeeringConfig(_Strict):
    """One side of a VNet peering."""

    name: str
    remote: str
    allow_gateway_transit: bool = False
    use_remote_gateways: bool = False


class VirtualNetworkConfig(_Strict):
    """A VNet with its subnets."""

    name: str
    address_space: list[str]
    subnets: list[SubnetConfig] = []
    peerings: list[PeeringConfig] = []


class RouteConfig(_Strict):
    """A route of a table."""

    name: str
    prefix: str
    next_hop: str | list[str] | None = None
    type: str | None = None


class RouteTableConfig(_Strict):
    """A route table. ``propagate: false`` is ``disableBgpRoutePropagation``."""

    name: str
    propagate: bool = True
    routes: list[RouteConfig] = []


class PeerConfig(_Strict):
    """A bgpConnection."""

    name: str
    address: str
    asn: int


class RouteServerConfig(_Strict):
    """A Route Server in the RouteServerSubnet of a VNet."""

    name: str
    virtual_network: str
    peers: list[PeerConfig] = []


class NicConfig(_Strict):
    """A NIC; ``subnet`` is ``vnet/subnet``, or the subnet alone when there is one VNet."""

    name: str
    subnet: str
    address: str | None = None
    ip_forwarding: bool = False


class VmConfig(_Strict):
    """A VM: a network namespace with the NIC in it. ``namespace`` is made when it is not there."""

    name: str
    nic: str | None = None
    namespace: str | None = None
    interface: str = "eth0"
    identities: list[str] = []
    zone: str = "1"


class FabricConfig(_Strict):
    """``mode: namespaces`` builds the network. ``containers``: it is wired to who comes to the socket in ``directory``.

    ``none`` serves ARM and IMDS alone. ``tag`` begins the namespaces' names.
    """

    mode: Literal["namespaces", "containers", "none"] = "namespaces"
    tag: str = "twin"
    imds: bool = True
    directory: str = "/run/azure-twin"


class Config(_Strict):
    """The whole file."""

    listen: list[str | Listen] = msgspec.field(default_factory=lambda: ["127.0.0.1:9180"])
    state: str | None = None
    subscription: str = Settings().subscription
    tenant: str = Settings().tenant
    location: str = "westeurope"
    resource_group: str = "rg1"
    timing: Timing = Timing()
    limits: Limits = Limits()
    throttling: Throttling = Throttling()
    rules: Rules = Rules()
    virtual_networks: list[VirtualNetworkConfig] = []
    route_tables: list[RouteTableConfig] = []
    route_server: RouteServerConfig | None = None
    nics: list[NicConfig] = []
    vms: list[VmConfig] = []
    identities: list[Identity] = []
    fabric: FabricConfig = msgspec.field(default_factory=FabricConfig)
    bird: str = "bird"

    def settings(self) -> Settings:
        """What the core reads."""
        return Settings(
            subscription=self.subscription, tenant=self.tenant, location=self.location, timing=self.timing,
            limits=self.limits, throttling=self.throttling, rules=self.rules,
            vm_nics={vm.name: vm.nic or vm.name for vm in self.vms},
        )  # fmt: skip

    def listens(self) -> list[Listen]:
        """The addresses, all in the long form."""
        return [Listen(address=each) if isinstance(each, str) else each for each in self.listen]

    def vm_values(self) -> dict[str, Vm]:
        """The VMs as IMDS sees them."""
        return {vm.name: Vm(vm.name, tuple(vm.identities or self.identity_names()), vm.zone) for vm in self.vms}

    def identity_names(self) -> list[str]:
        """All identities."""
        return [each.name for each in self.identities]


#: Without identities in the file there is one, that owns the subscription.
DEFAULT_IDENTITY: Final = Identity(
    name="agent", client_id="00000000-0000-0000-0000-0000000000c1", object_id="00000000-0000-0000-0000-0000000000d1"
)


def load(path: Path) -> Config:
    """Read and check a file; raises :class:`ConfigError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    return parse(text, str(path))


def parse(text: str, where: str = "twin.yaml") -> Config:
    """Check the text of a file; raises :class:`ConfigError`."""
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: the top level must be a mapping (virtual_networks, nics, ...)")
    try:
        config = msgspec.convert(_prepared(cast("Json", raw)), Config)
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from None
    if not config.identities:
        config.identities = [DEFAULT_IDENTITY]
    _check(config, where)
    return config


def _check(config: Config, where: str) -> None:
    names = set(config.identity_names())
    for vm in config.vms:
        if unknown := set(vm.identities) - names:
            raise ConfigError(f"{where}: vms: {vm.name} has unknown identities {', '.join(sorted(unknown))}")
    for name in ("vms", "nics"):
        seen = [each.name.lower() for each in cast("list[VmConfig]", getattr(config, name))]
        if len(set(seen)) != len(seen):
            raise ConfigError(f"{where}: {name}: two have the same name")


def _prepared(raw: Json) -> Json:
    """``timing: fast`` and ``timing: {preset: fast, route: 3s}`` in the long form; durations as seconds."""
    made = dict(raw)
    timing = made.get("timing", "azure")
    chosen = timing if isinstance(timing, dict) else {"preset": timing}
    preset = chosen.get("preset", "azure")
    if preset not in {"azure", "fast"}:
        raise ValueError(f"timing: preset {preset!r} is neither azure nor fast")
    base = cast("Json", msgspec.to_builtins(FAST if preset == "fast" else Timing()))
    made["timing"] = base | {name: _seconds(value) for name, value in chosen.items() if name != "preset"}
    if isinstance(limits := made.get("limits"), dict):
        made["limits"] = {name: _seconds(value) for name, value in limits.items()}
    return made


def _seconds(value: object) -> object:
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    return float(found[1]) * _UNITS[found[2]] if found else value

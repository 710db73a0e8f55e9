"""CustomResourceDefinitions like Calico's, in both of its API groups, with the fields that a routing agent reads.

Names and types follow Calico v3.32 (``libcalico-go/config/crd`` for ``crd.projectcalico.org/v1``, ``api/config/crd``
for ``projectcalico.org/v3``); whatever else stands in an object is kept as it is. Both are cluster-wide.

``loose`` definitions take any object at all, so that a test can store what Calico's would refuse.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

V1: Final = "crd.projectcalico.org/v1"
V3: Final = "projectcalico.org/v3"

Schema = dict[str, Any]
STRING: Final[Schema] = {"type": "string"}
BOOLEAN: Final[Schema] = {"type": "boolean"}
INTEGER: Final[Schema] = {"type": "integer"}
INT64: Final[Schema] = {"type": "integer", "format": "int64"}
ANYTHING: Final[Schema] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _map(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def _one_of(*words: str) -> Schema:
    return {"type": "string", "enum": list(words)}


_ATTRIBUTE: Final = {
    **ANYTHING,
    "properties": {
        "handle_id": STRING, "secondary": _map(STRING), "alternateOwnerAttrs": _map(STRING), "releasedAt": STRING,
    },
}  # fmt: skip
_BLOCK: Final = {
    "cidr": STRING, "affinity": STRING, "affinityClaimTime": STRING,
    "allocations": _array({**INTEGER, "nullable": True}), "unallocated": _array(INTEGER),
    "attributes": _array(_ATTRIBUTE), "sequenceNumber": INT64, "sequenceNumberForAllocation": _map(INT64),
    "strictAffinity": BOOLEAN, "deleted": BOOLEAN,
}  # fmt: skip
_POOL: Final = {
    "cidr": STRING, "blockSize": INTEGER, "ipipMode": _one_of("Never", "Always", "CrossSubnet"),
    "vxlanMode": _one_of("Never", "Always", "CrossSubnet"), "natOutgoing": BOOLEAN, "disabled": BOOLEAN,
    "disableBGPExport": BOOLEAN, "nodeSelector": STRING, "assignmentMode": _one_of("Automatic", "Manual"),
    "allowedUses": _array(_one_of("Workload", "Tunnel", "LoadBalancer")),
}  # fmt: skip
_IPAM: Final = {
    "strictAffinity": BOOLEAN, "maxBlocksPerHost": INTEGER, "autoAllocateBlocks": BOOLEAN,
    "ipCooldownSeconds": INTEGER,
}  # fmt: skip
_BGP: Final = {
    "asNumber": INT64, "nodeToNodeMeshEnabled": BOOLEAN,
    "listenPort": INTEGER, "programClusterRoutes": STRING, "serviceClusterIPs": _array(ANYTHING),
    "serviceExternalIPs": _array(ANYTHING), "serviceLoadBalancerIPs": _array(ANYTHING),
}  # fmt: skip
_FELIX: Final = {
    "programClusterRoutes": STRING, "deviceRouteProtocol": INTEGER, "removeExternalRoutes": BOOLEAN,
    "ipipEnabled": BOOLEAN, "vxlanEnabled": BOOLEAN, "wireguardEnabled": BOOLEAN, "bpfEnabled": BOOLEAN,
}  # fmt: skip
_HOST_ENDPOINT: Final = {
    "node": STRING, "interfaceName": STRING, "expectedIPs": _array(STRING), "profiles": _array(STRING),
}  # fmt: skip
#: A policy that is applied to what a node forwards (``applyOnForward``) can keep pods' traffic from a node.
_POLICY: Final = {
    "applyOnForward": BOOLEAN, "preDNAT": BOOLEAN, "doNotTrack": BOOLEAN, "selector": STRING,
    "order": {"type": "number"},
    "types": _array(_one_of("Ingress", "Egress")), "ingress": _array(ANYTHING), "egress": _array(ANYTHING),
}  # fmt: skip


def _affinity(deleted: Schema, state: Schema) -> Schema:
    return {"cidr": STRING, "node": STRING, "state": state, "type": STRING, "deleted": deleted}


_AFFINITY: Final = {
    V1: _affinity(STRING, STRING),
    V3: _affinity(BOOLEAN, _one_of("", "confirmed", "pending", "pendingDeletion")),
}


def _kinds(group: str) -> Mapping[str, tuple[str, Schema, tuple[str, ...]]]:
    """Kind -> plural, fields of the spec, required fields."""
    ipam = ("IPAMConfig", "ipamconfigs") if group == V1 else ("IPAMConfiguration", "ipamconfigurations")
    block = ("allocations", "attributes", "cidr", "strictAffinity", "unallocated")
    return {
        "BlockAffinity": ("blockaffinities", _AFFINITY[group], ("cidr", "deleted", "node", "state")),
        "IPAMBlock": ("ipamblocks", _BLOCK, block),
        "IPPool": ("ippools", _POOL, ("cidr",)),
        ipam[0]: (ipam[1], _IPAM, ()),
        "BGPConfiguration": ("bgpconfigurations", _BGP, ()),
        "FelixConfiguration": ("felixconfigurations", _FELIX, ()),
        "HostEndpoint": ("hostendpoints", _HOST_ENDPOINT, ()),
        "GlobalNetworkPolicy": ("globalnetworkpolicies", _POLICY, ()),
    }


def _definition(group_version: str, kind: str, plural: str, schema: Schema) -> dict[str, Any]:
    group, version = group_version.split("/")
    served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group, "scope": "Cluster", "versions": [served], "preserveUnknownFields": False,
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()},
        },
    }  # fmt: skip


def crds(group_version: str, *, loose: bool = False) -> list[dict[str, Any]]:
    """The definitions of one group, :data:`V1` or :data:`V3`, for :meth:`lab.kubernetes.ApiServer.define`."""
    made = []
    for kind, (plural, fields, required) in _kinds(group_version).items():
        spec = {**ANYTHING, "properties": fields, **({"required": list(required)} if required else {})}
        schema = ANYTHING if loose else {"type": "object", "properties": {"spec": spec}}
        made.append(_definition(group_version, kind, plural, schema))
    return made

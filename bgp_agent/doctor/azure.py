"""The checks of Azure. Each takes what :mod:`bgp_agent.doctor.cloud` found and gives findings; none asks anything.

A remedy is the exact ``az`` command where there is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from bgp_agent.cloud import ids
from bgp_agent.cloud.azure import CAP
from bgp_agent.cloud.values import Subnet
from bgp_agent.config import Config
from bgp_agent.core import proof
from bgp_agent.core.cloudtable import Node, Table, controller, name_of, table_name
from bgp_agent.core.prefix import (
    Address,
    Prefix,
    PrefixError,
    address_text,
    overlaps,
    parse_prefix,
    prefix_text,
)
from bgp_agent.doctor.checks import Context
from bgp_agent.doctor.cloud import Facts, Right
from bgp_agent.doctor.findings import Finding, Verdict
from bgp_agent.doctor.groups import Group, Passage, passage

OK, WARN, FAIL, SKIP = Verdict.OK, Verdict.WARN, Verdict.FAIL, Verdict.SKIP
#: Rights without which the agent does its work, only slower or with fewer warnings.
_HELPFUL: Final = ("/learnedRoutes/action", "/effectiveRouteTable/action", "/usages/read")
INSTANCES: Final = 2  # of a Route Server


def judge(context: Context, facts: Facts) -> Iterator[Finding]:
    """All findings of Azure, what is needed first comes first."""
    config = context.config
    if config is None:
        return
    if facts.trouble is not None:
        yield Finding("azure", FAIL, facts.trouble, "correct the section azure, or see `curl -v` to azure.arm_url")
        return
    yield from _who(facts)
    if facts.identity is not None:
        return
    pools = [parse_prefix(str(each)) for each in config.pools]
    blocks, acknowledged = _blocks(context)
    yield from _rights(facts)
    yield from _server(facts, config)
    yield from _peering(facts, config)
    yield from _interface(facts)
    yield from _subnets(facts, config)
    for table in facts.tables:
        yield from _table(facts, table, blocks, pools)
    yield from _space(facts, [*blocks, *pools])
    yield from _answers(facts, blocks, acknowledged, silent=context.status is None)
    for group in facts.groups:
        yield from _group(group, pools or blocks)


def _blocks(context: Context) -> tuple[list[Prefix], list[Prefix]]:
    """Own blocks of the running agent that something attracts; of these, what peers have acknowledged."""
    shown = context.status.blocks if context.status is not None else ()
    live = [each for each in shown if each.state in {"announced", "fallback"}]
    return [parse_prefix(each.cidr) for each in live], [parse_prefix(each.cidr) for each in live if each.peers]


# --- identity --------------------------------------------------------------------------------------------------------
def _who(facts: Facts) -> Iterator[Finding]:
    if facts.imds is not None:
        remedy = "curl -sH Metadata:true 'http://169.254.169.254/metadata/instance?api-version=2021-02-01'; let it pass"
        yield Finding("azure imds", WARN, facts.imds, remedy)
    else:
        yield Finding("azure imds", OK, "answers")
    if facts.identity is not None:
        instance = facts.found.instance
        where = f"-g {instance.group} -n {instance.name}" if instance else "-g GROUP -n MACHINE"
        yield Finding("azure identity", FAIL, facts.identity, f"az vm identity assign {where}")
    else:
        yield Finding("azure identity", OK, f"has a token{f' (object {facts.principal})' if facts.principal else ''}")


def _rights(facts: Facts) -> Iterator[Finding]:
    for right in facts.missing:
        helpful = right.action.endswith(_HELPFUL)
        cost = "hand-overs wait azure.settle, limits are not known" if helpful else "the hand-over cannot do without"
        where = f" on {ids.short(right.scope)}" if right.scope else ""
        yield Finding(
            "azure rights", WARN if helpful else FAIL, f"{right.action}{where} is missing: {cost}", _grant(facts, right)
        )
    unsure = {what: why for what, why in facts.unasked.items() if what.startswith("Microsoft.")}
    for action, why in unsure.items():
        yield Finding("azure rights", WARN, f"whether {action} is there is not known: {why}", "run doctor again")
    if not facts.missing and not unsure:
        yield Finding("azure rights", OK, "all that are asked for are there")


def _grant(facts: Facts, right: Right) -> str:
    instance = facts.found.instance
    who = facts.principal or "OBJECT_ID"
    scope = right.scope or (f"/subscriptions/{instance.subscription}" if instance else "/subscriptions/SUBSCRIPTION")
    role = "Reader" if right.action.endswith("/read") else "Network Contributor"
    return (
        f"az role assignment create --assignee-object-id {who} --assignee-principal-type ServicePrincipal "
        f"--role '{role}' --scope {scope} (or a role of your own with this action; it takes minutes to count)"
    )


# --- Route Server ----------------------------------------------------------------------------------------------------
def _server(facts: Facts, config: Config) -> Iterator[Finding]:
    name, server = "azure route server", facts.found.server
    if server is None:
        why = next((each for each in facts.found.missing if "Route Server" in each), "none was found")
        yield Finding(name, WARN, f"{why}; without BGP the node lives by the route table", "set azure.route_server")
        return
    addresses = {address_text(each) for each in server.addresses}
    if not addresses:
        seen = f"{ids.name(server.id)} has no addresses yet (routingState {server.routing or 'unknown'})"
        yield Finding(name, FAIL, seen, f"az network routeserver show --ids {server.id}, until it is Provisioned")
        return
    peers = {each.address for each in config.bgp.peers}
    wrong = [each for each in config.bgp.peers if each.address in addresses and each.asn != server.asn]
    listed = f"{' and '.join(sorted(addresses))}, AS {server.asn}"
    if wrong:
        seen = f"{wrong[0].address} is configured with AS {wrong[0].asn}, but {ids.name(server.id)} has AS {server.asn}"
        yield Finding(name, FAIL, seen, f"set asn: {server.asn} in bgp.peers, or leave bgp.peers out")
    if addresses - peers:
        lost = " and ".join(sorted(addresses - peers))
        seen = f"{ids.name(server.id)} is {listed}, but bgp.peers lacks {lost}: Azure needs a session with each"
        yield Finding(name, FAIL, seen, "name both in bgp.peers, or leave bgp.peers out")
    elif not wrong:
        yield Finding(name, OK, f"{ids.name(server.id)}: {listed}")


def _peering(facts: Facts, config: Config) -> Iterator[Finding]:
    name, found = "azure peering", facts.found
    server, connection, connections = found.server, found.connection, found.connections
    if server is None or connections is None or facts.node is None:
        return
    address, manages = address_text(facts.node.address), config.azure is not None and config.azure.manage_peering
    if connection is None:
        full = len(connections) >= CAP
        seen = f"{ids.name(server.id)} has no bgpConnection for {address}"
        if full:
            seen += (
                f", and {len(connections)} of the {CAP} peers that it takes (16 by newer sources): this node lives by "
                "the route table"
            )
        remedy = _make_peering(server.id, facts.node, config.bgp.asn)
        if manages and not full:
            yield Finding(name, WARN, f"{seen}; the agent makes one (azure.manage_peering)", "wait 4 minutes")
        else:
            yield Finding(name, WARN if full else FAIL, seen, f"free one first, then {remedy}" if full else remedy)
    elif config.bgp.asn is not None and connection.asn != config.bgp.asn:
        seen = f"bgpConnection {connection.name} expects AS {connection.asn}, but bgp.asn is {config.bgp.asn}"
        yield Finding(name, FAIL, seen, f"set bgp.asn: {connection.asn}, or leave it out")
    elif connection.state == "Failed":
        remedy = f"az network routeserver peering delete --ids {connection.id} --yes, then "
        seen = f"bgpConnection {connection.name} is Failed: two writes met"
        yield Finding(name, FAIL, seen, remedy + _make_peering(server.id, facts.node, connection.asn))
    else:
        yield Finding(name, OK, f"bgpConnection {connection.name}: {address}, AS {connection.asn}")


def _make_peering(server: str, node: Node, asn: int | None) -> str:
    group = server.split("/")[4]
    return (
        f"az network routeserver peering create -g {group} --routeserver {ids.name(server)} "
        f"-n bgp-agent-{node.name or 'NODE'} --peer-ip {address_text(node.address)} --peer-asn {asn or 'ASN'}"
    )


# --- interface and tables --------------------------------------------------------------------------------------------
def _interface(facts: Facts) -> Iterator[Finding]:
    name, nic = "azure forwarding", facts.found.interface
    if nic is None:
        seen = "the network interface is not known, so neither is whether IP forwarding is on"
        yield Finding(name, WARN, seen, "grant Microsoft.Network/networkInterfaces/read, or look in the portal")
    elif not nic.forwarding:
        seen = f"IP forwarding is off on {ids.name(nic.id)}: packets of and for pods vanish without a word"
        yield Finding(name, FAIL, seen, f"az network nic update --ids {nic.id} --ip-forwarding true")
    else:
        yield Finding(name, OK, f"on, at {ids.name(nic.id)}")


def _subnets(facts: Facts, config: Config) -> Iterator[Finding]:
    name, subnets = "azure tables", facts.found.subnets
    chosen = {ids.key(each) for each in config.azure.route_tables} if config.azure is not None else set()
    table = facts.tables[0].id if facts.tables else next(iter(chosen), "")
    without = [each for each in subnets if _lacks(each, chosen)]
    for each in without:
        has = "no route table" if each.route_table is None else f"route table {ids.name(each.route_table)}, not ours"
        seen = f"subnet {ids.name(each.id)} has nodes and {has}: a fallback does not reach it"
        make = "" if table else f"az network route-table create -g {each.id.split('/')[4]} -n pods, then "
        remedy = f"{make}az network vnet subnet update --ids {each.id} --route-table {table or 'pods'}"
        yield Finding(name, FAIL, seen, remedy)
    if not subnets and not facts.tables:
        why = next((each for each in facts.found.missing if "route table" in each), "no subnet with nodes was found")
        yield Finding(name, FAIL, why, "set azure.route_tables")
    elif not without and facts.tables:
        names = ", ".join(table_name(each.id) for each in facts.tables)
        where = ", ".join(ids.name(each.id) for each in subnets) or "as configured"
        yield Finding(name, OK, f"{names} ({where})")


def _lacks(subnet: Subnet, chosen: set[str]) -> bool:
    table = subnet.route_table
    return table is None or (bool(chosen) and ids.key(table) not in chosen)


def _table(facts: Facts, table: Table, blocks: list[Prefix], pools: list[Prefix]) -> Iterator[Finding]:
    name, where = f"azure table {table_name(table.id)}", table_name(table.id)
    found = list(_defects(facts, table, name, where))
    ours = {name_of(each): each for each in blocks}
    for route in table.routes:
        prefix = _prefix(route.prefix)
        if prefix is None or facts.node is None:
            continue
        here = {address_text(each) for each in (facts.node.address, facts.node.address6) if each is not None}
        leads = route.next_hop or route.kind
        remove = f"az network route-table route delete --ids {table.id}/routes/{route.name}"
        if prefix in blocks and route.name not in ours and leads not in here:
            seen = f"route {route.name} of somebody else holds {route.prefix} and leads to {leads}"
            found.append(Finding(name, FAIL, seen, remove))
        elif route.name in ours and leads not in here:
            seen = f"our route {route.name} leads to {leads}: another node owns the block, too"
            found.append(Finding(name, WARN, seen, "bgp-agent explain " + route.prefix))
        elif route.kind in {"None", "VirtualAppliance"} and any(overlaps(prefix, each) for each in pools):
            inside = any(prefix != each and proof.inside(prefix, [each]) for each in pools)
            if inside and not route.name.startswith("bgp-agent_"):
                seen = f"route {route.name} ({route.prefix} to {leads}) lies inside the pods' range, and wins over BGP"
                found.append(Finding(name, WARN, seen, remove))
    yield from found or [
        Finding(name, OK, f"{len(table.routes)} routes" + (f" of {table.limit}" if table.limit else ""))
    ]


def _defects(facts: Facts, table: Table, name: str, where: str) -> Iterator[Finding]:
    if not table.subnets:
        seen = "is associated with no subnet: what is in it reaches nobody"
        yield Finding(name, WARN, seen, f"az network vnet subnet update --ids SUBNET --route-table {table.id}")
    if not table.propagates:
        seen = "BGP propagation is switched off: what the Route Server learns does not reach its subnets"
        remedy = f"az network route-table update --ids {table.id} --disable-bgp-route-propagation false"
        yield Finding(name, FAIL, seen, remedy)
    theirs = controller(table, facts.node) if facts.node is not None else None
    if theirs is not None:
        seen = f"belongs to the Kubernetes route controller (route {theirs}), which takes out what it does not know"
        remedy = "run the cloud controller with --configure-cloud-routes=false, or associate another table"
        yield Finding(name, FAIL, seen, remedy)
    if table.limit is not None and (table.limit - len(table.routes)) * 10 < table.limit:
        full = len(table.routes) >= table.limit
        location = facts.found.instance.location if facts.found.instance else "LOCATION"
        remedy = f"ask Azure for more RoutesPerRouteTable: `az network list-usages --location {location} -o table`"
        seen = f"{where} holds {len(table.routes)} of {table.limit} routes"
        yield Finding(name, FAIL if full else WARN, seen, remedy)


def _space(facts: Facts, ranges: Iterable[Prefix]) -> Iterator[Finding]:
    name, said = "azure address space", False
    if not facts.network.space:
        return
    for each in dict.fromkeys(ranges):
        space = next((one for one in facts.network.space if overlaps(one, each)), None)
        if space is not None:
            said = True
            seen = (
                f"{prefix_text(each)} meets the virtual network's own space {prefix_text(space)}, where no BGP route "
                "counts: only the route table can carry it"
            )
            yield Finding(name, WARN, seen, "take the pods' range from outside the virtual network's space")
    if not said:
        yield Finding(name, OK, "the pods' range lies outside the virtual network's own")


# --- the network's own answers ---------------------------------------------------------------------------------------
def _answers(facts: Facts, blocks: list[Prefix], acknowledged: list[Prefix], *, silent: bool) -> Iterator[Finding]:
    if silent:
        yield Finding("azure effective routes", SKIP, "no agent answers, so nothing is announced to compare with")
        return
    yield _effective(facts, blocks)
    if facts.found.connection is not None:
        yield _learned(facts, acknowledged)


def _effective(facts: Facts, blocks: list[Prefix]) -> Finding:
    name = "azure effective routes"
    if facts.network.effective is None:
        why = facts.unasked.get("effective", "the network interface is not known")
        return Finding(name, SKIP, f"not known: {why}")
    here: tuple[Address, ...] = ()
    if facts.node is not None:
        here = tuple(each for each in (facts.node.address, facts.node.address6) if each is not None)
    words = proof.ineffective(facts.network, blocks, here, 0.0)
    if words is None:
        return Finding(name, OK, f"each of the {len(blocks)} blocks leads here")
    nic = facts.found.interface
    look = f"az network nic show-effective-route-table --ids {nic.id} -o table" if nic else ""
    return Finding(name, FAIL, words, f"{look}; the findings above have the usual causes")


def _learned(facts: Facts, acknowledged: list[Prefix]) -> Finding:
    name, learned = "azure learned routes", facts.network.learned
    if learned is None:
        return Finding(name, SKIP, f"not known: {facts.unasked.get('learned', 'it was not asked')}")
    connection, server = facts.found.connection, facts.found.server
    remedy = ""
    if connection is not None and server is not None:
        remedy = (
            f"az network routeserver peering list-learned-routes -g {server.id.split('/')[4]} "
            f"--routeserver {ids.name(server.id)} -n {connection.name}"
        )
    words = proof.lacking(learned, acknowledged, 0.0)
    if words is not None:
        return Finding(name, FAIL, f"{words}: part of the network does not have it", remedy)
    if len(learned.instances) < INSTANCES:
        seen = f"only {len(learned.instances)} of {INSTANCES} instances answer"
        return Finding(name, WARN, seen, remedy)
    return Finding(name, OK, f"{len(learned.instances)} instances have all {len(acknowledged)} announced blocks")


# --- security groups -------------------------------------------------------------------------------------------------
def _group(group: Group, ranges: list[Prefix]) -> Iterator[Finding]:
    name, where = f"security group {ids.name(group.id)}", " and ".join(group.places)
    if group.rules is None:
        seen = f"of {where}, cannot be read ({group.why}): let packets from the pods' range to it pass, both ways"
        yield Finding(name, SKIP, seen, f"az network nsg rule list --ids {group.id} --include-default -o table")
        return
    good = True
    for pool in ranges:
        for inbound in (True, False):
            found = passage(group.rules, pool, inbound=inbound)
            if found.verdict != "passes":
                good = False
                yield _not_passed(name, where, group, pool, found)
    if good and ranges:
        yield Finding(name, OK, f"of {where}: packets between pods pass")


def _not_passed(name: str, where: str, group: Group, pool: Prefix, found: Passage) -> Finding:
    text, way = prefix_text(pool), "Inbound" if found.inbound else "Outbound"
    words = {
        "denied": f"{way.lower()} packets from {text} to {text} are denied ({found.rule})",
        "partly": f"rule {found.rule} denies some {way.lower()} packets between pods of {text}",
        "tag": f"{way.lower()} packets between pods pass by the VirtualNetwork tag of {found.rule} alone, and nothing "
        f"says that it covers {text} when BGP announces it",
    }[found.verdict]
    remedy = (
        f"az network nsg rule create -g {group.id.split('/')[4]} --nsg-name {ids.name(group.id)} "
        f"-n pods-{way.lower()} --priority 150 --direction {way} --access Allow --protocol '*' "
        f"--source-address-prefixes {text} --destination-address-prefixes {text} --destination-port-ranges '*'"
    )
    return Finding(name, FAIL if found.verdict == "denied" else WARN, f"of {where}: {words}", remedy)


def _prefix(text: str) -> Prefix | None:
    try:
        return parse_prefix(text)
    except PrefixError:
        return None

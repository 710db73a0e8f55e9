#!/usr/bin/env bash
# Takes out what the scripts of this folder made, and nothing else: peerings by their names, all else by its tag.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

option resource-group needed '' 'the resource group that the other scripts were given'
option route-server one route-server 'the Route Server'
option route-table one bgp-agent 'the route table'
option node many '' 'NAME or NAME=ADDRESS: a node whose peering bgp-agent-NAME is taken out'
option yes flag '' 'do it: pods lose each other unless the agents were stopped and drained before'
parse 'Takes out peerings, Route Server, route table, IP forwarding and roles, as far as the scripts made them.
Stop the agents first: `bgp-agent drain --force`, `bgp-agent stop --all`, `bgp-agent cleanup` on each node.' "$@"

group=${opt[resource-group]} server=${opt[route-server]} table=${opt[route-table]}
[ -n "${opt[yes]}${opt[dry-run]}" ] || usage_error 'look first with --dry-run, then say --yes'
look root 'the subscription' account show --query "join('', ['/subscriptions/', id])"

# --- judged before the first write -----------------------------------------------------------------------------------
look found "the Route Server $server" network routeserver show -g "$group" -n "$server" \
  --query "join(' ', ['tag', tags.\"$mark\" || '-', id])"
read -r _ server_tag server_id <<<"$found" || true
peers=
[ -z "${server_id-}" ] || look peers "the peerings of $server" network routeserver peering list -g "$group" \
  --routeserver "$server" --query '[].name'
wanted=
for node in ${opt[node]}; do wanted+=" bgp-agent-${node%%=*}"; done
strangers=
for peer in $peers; do [[ " ${wanted,,} " == *" ${peer,,} "* ]] || strangers+=" $peer"; done
if [ "${server_tag:--}" = made ] && [ -n "$strangers" ]; then
  die "it has peerings that are not named here:$strangers" "the Route Server $server in $group" \
    'name the nodes with --node, or delete those peerings yourself'
fi
look found "the route table $table" network route-table show -g "$group" -n "$table" \
  --query "join(' ', ['tag', tags.\"$mark\" || '-', to_string(length(routes || \`[]\`)), join(' ', routes[].name || \`[]\`)])"
read -r _ table_tag routes names <<<"$found" || true
if [ "${table_tag:--}" = made ] && [ "${routes:-0}" != 0 ]; then
  die "it still has routes: $names" "the route table $table in $group" \
    'take the own ones out with `bgp-agent cleanup` on each node, and see to the others'
fi

# --- the Route Server ------------------------------------------------------------------------------------------------
remedy='run this again: it goes on where it stopped'
for peer in $peers; do
  [[ " ${wanted,,} " == *" ${peer,,} "* ]] || continue
  change "taking out the peering $peer" "$remedy" \
    network routeserver peering delete -g "$group" --routeserver "$server" -n "$peer" --yes
done
if [ "${server_tag:--}" = made ]; then
  change "taking out the Route Server $server (7 to 25 minutes)" "$remedy" network routeserver delete -g "$group" -n "$server" --yes
elif [ -n "${server_id-}" ]; then
  say "the Route Server $server was not made by these scripts: it stays"
fi
look found "public addresses of $group" network public-ip list -g "$group" \
  --query "[?tags.\"$mark\"=='made'].join(' ', [name, tags.\"$mark-subnet\" || '-'])"
while read -r name vnet; do
  [ -n "$name" ] || continue
  if [ "$vnet" != - ]; then
    look prefix "RouteServerSubnet of $vnet" network vnet subnet show -g "$group" --vnet-name "$vnet" -n RouteServerSubnet \
      --query addressPrefix
    [ -z "$prefix" ] || change "taking out RouteServerSubnet of $vnet" "$remedy" \
      network vnet subnet delete -g "$group" --vnet-name "$vnet" -n RouteServerSubnet
  fi
  change "taking out the public address $name" "$remedy" network public-ip delete -g "$group" -n "$name"
done <<<"$found"

# --- route table, interfaces -----------------------------------------------------------------------------------------
if [ "${table_tag:--}" = made ]; then
  look found "who uses the route table $table" network route-table show -g "$group" -n "$table" --query 'subnets[].id'
  for subnet in $found; do
    change "taking the route table off the subnet ${subnet##*/}" "$remedy" network vnet subnet update --ids "$subnet" --remove routeTable
  done
  change "taking out the route table $table" "$remedy" network route-table delete -g "$group" -n "$table"
elif [ -n "${table_tag-}" ]; then
  say "the route table $table was not made by these scripts: it stays, and stays associated"
fi
look nics "the interfaces of $group" network nic list -g "$group" --query "[?tags.\"$mark-ip-forwarding\"=='on'].name"
for nic in $nics; do
  change "turning IP forwarding off for $nic" "$remedy" \
    network nic update -g "$group" -n "$nic" --ip-forwarding false --remove "tags.$mark-ip-forwarding"
done

# --- roles -----------------------------------------------------------------------------------------------------------
for name in bgp-agent bgp-agent-limits bgp-agent-peering; do
  look found "the role $name" rest --method get \
    --url "$root/providers/Microsoft.Authorization/roleDefinitions?api-version=2022-04-01&\$filter=roleName%20eq%20'$name'" \
    --query "value[?properties.type=='CustomRole' && ends_with(properties.description, 'Made by azure/role.sh')].id"
  [ -n "$found" ] || continue
  look held 'the role assignments' rest --method get \
    --url "$root/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01" \
    --query "value[?ends_with(properties.roleDefinitionId, '${found##*/}')].id"
  for each in $held; do
    change "taking the role $name from an identity" "$remedy" role assignment delete --ids "$each" --yes
  done
  change "taking out the role $name" "$remedy" role definition delete --name "${found##*/}"
done
done_

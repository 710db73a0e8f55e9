#!/usr/bin/env bash
# The route table that the agents fall back to, on every subnet that has nodes.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

option resource-group needed '' 'the resource group of the virtual network and of the route table'
option vnet needed '' 'the virtual network of the nodes'
option subnet needed-many '' 'a subnet with nodes; name each of them, control plane too'
option name one bgp-agent 'the route table'
parse 'Makes a route table, with BGP propagation left on, and associates it with the subnets of the nodes.' "$@"

group=${opt[resource-group]} vnet=${opt[vnet]} table=${opt[name]}

look location "the virtual network $vnet" network vnet show -g "$group" -n "$vnet" --query location
[ -n "$location" ] || die 'there is no such virtual network' "$vnet in the resource group $group" 'see --vnet and -g'
look subnets "the subnets of $vnet" network vnet subnet list -g "$group" --vnet-name "$vnet" \
  --query "[].join(' ', [name, routeTable.id || '-'])"
look found "the route table $table" network route-table show -g "$group" -n "$table" \
  --query "join(' ', [id, to_string(disableBgpRoutePropagation || \`false\`)])"
read -r id disabled <<<"$found" || true

# Everything is judged before the first write.
[ "${disabled:-false}" = false ] ||
  die 'its BGP propagation is off, so its subnets hear nothing of Route Server' "the route table $table in $group" \
    "az network route-table update -g $group -n $table --disable-bgp-route-propagation false, or another --name"
todo=()
for subnet in ${opt[subnet]}; do
  held=$(awk -v name="${subnet,,}" 'tolower($1) == name { print $2 }' <<<"$subnets")
  case ${subnet,,} in routeserversubnet | gatewaysubnet | azurefirewallsubnet | azurebastionsubnet)
    die "$subnet is none of nodes" "$vnet" 'name the subnets of the nodes' ;;
  esac
  [ -n "$held" ] || die "there is no subnet $subnet" "$vnet in the resource group $group" 'see az network vnet subnet list'
  [ "${held,,}" != "${id,,}" ] || continue
  [ "$held" = - ] || die "the subnet $subnet has another route table, and a subnet has one" "$held" \
    "use that one (--name ${held##*/}), if the cloud provider's route controller does not write to it"
  todo+=("$subnet")
done

if [ -z "${id-}" ]; then
  change "making the route table $table" 'see whether your account may write route tables, and the quota of 600' \
    network route-table create -g "$group" -n "$table" -l "$location" --disable-bgp-route-propagation false \
    --tags "$mark=made"
fi
for subnet in "${todo[@]}"; do
  change "giving it to the subnet $subnet" 'see whether your account may write subnets and join the route table' \
    network vnet subnet update -g "$group" --vnet-name "$vnet" -n "$subnet" --route-table "$table"
done
done_

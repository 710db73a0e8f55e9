#!/usr/bin/env bash
# The subnet of a Route Server, its public address, and the Route Server itself.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

option resource-group needed '' 'the resource group of the virtual network; what is made goes there too'
option vnet needed '' 'the virtual network of the nodes, or a hub that theirs is peered with'
option name one route-server 'the Route Server'
option subnet-prefix one '' 'RouteServerSubnet, /26 or larger, inside the virtual network; needed when it is not there yet'
option public-ip one '' 'its public address, for its management (default: NAME-ip)'
option timeout one 3600 'seconds to wait until it works: Azure takes 15 to 60 minutes'
option accept-ipv6-loss flag '' 'go on in a virtual network with IPv6, whose IPv6 traffic Route Server breaks'
parse 'Makes an Azure Route Server, or says that it is there; prints its addresses and its AS number.' "$@"

group=${opt[resource-group]} vnet=${opt[vnet]} server=${opt[name]} subnet=RouteServerSubnet
public_ip=${opt[public-ip]:-$server-ip}
here="the virtual network $vnet in the resource group $group"

look found "$here" network vnet show -g "$group" -n "$vnet" --query "[location, join(' ', addressSpace.addressPrefixes)]"
[ -n "$found" ] || die 'there is no such virtual network' "$here" "az network vnet create -g $group -n $vnet ..."
{ read -r location && read -r space; } <<<"$found"
if [[ $space == *:* && -z ${opt[accept-ipv6-loss]} ]]; then
  die "the virtual network has IPv6 ($space), which a Route Server breaks" "$here" \
    'use a virtual network without IPv6, or say --accept-ipv6-loss'
fi
look subnets "the subnets of $vnet" network vnet subnet list -g "$group" --vnet-name "$vnet" \
  --query "[].join(' ', [name, addressPrefix || addressPrefixes[0], networkSecurityGroup.id || '-', routeTable.id || '-'])"
read -r _ prefix security table <<<"$(grep -i "^$subnet " <<<"$subnets" || true)" || true
[[ " ${subnets//$'\n'/ } " != *' GatewaySubnet '* ]] ||
  say "note: $vnet has a GatewaySubnet; making a Route Server beside a gateway takes that gateway down for about 10 minutes"

look state "the Route Server $server" network routeserver show -g "$group" -n "$server" \
  --query "join(' ', [routingState || 'None', provisioningState])"
look address "the public address $public_ip" network public-ip show -g "$group" -n "$public_ip" \
  --query "join(' ', [sku.name || 'Basic', publicIPAllocationMethod || publicIpAllocationMethod || 'Dynamic'])"

# The address comes first: its tags keep what was made here, also when this is cut off in the middle.
if [ -z "$address" ]; then
  tags=("$mark=made")
  [ -n "${prefix-}" ] || tags+=("$mark-subnet=$vnet")
  change "making the public address $public_ip" 'see whether your account may write public addresses, and the quota' \
    network public-ip create -g "$group" -n "$public_ip" -l "$location" --sku Standard --allocation-method Static \
    --tags "${tags[@]}"
elif [ "$address" != 'Standard Static' ]; then
  die "the public address is $address, but a Route Server needs Standard and Static" "$public_ip in $group" \
    'name another one with --public-ip'
fi

if [ -z "${prefix-}" ]; then
  [ -n "${opt[subnet-prefix]}" ] ||
    die "there is no $subnet" "$here ($space)" 'choose a free /26 of the virtual network: --subnet-prefix 10.42.0.0/26'
  change "making $subnet" 'choose a --subnet-prefix inside the virtual network that no other subnet has' \
    network vnet subnet create -g "$group" --vnet-name "$vnet" -n "$subnet" --address-prefixes "${opt[subnet-prefix]}"
else
  [ "${prefix#*/}" -le 26 ] || die "$subnet is $prefix, too small" "$here" 'Azure wants a /26 or larger'
  [ "$security" = - ] || die "$subnet has a network security group" "$security" 'take it off: Azure allows none there'
  [ "$table" = - ] || die "$subnet has a route table" "$table" 'take it off: Azure allows none there'
fi

if [ -z "$state" ]; then
  stop_in_dry_run_with=(network routeserver create -g "$group" -n "$server" -l "$location" --public-ip-address "$public_ip"
    --tags "$mark=made")
  look subnet_id "$subnet" network vnet subnet show -g "$group" --vnet-name "$vnet" -n "$subnet" --query id
  change "making the Route Server $server, which takes Azure 15 to 60 minutes" \
    'run this again: it goes on where it stopped' "${stop_in_dry_run_with[@]}" --hosted-subnet "${subnet_id:-$subnet}"
  stop_in_dry_run
fi

addresses=
deadline=$((SECONDS + opt[timeout]))
while :; do
  look found "the Route Server $server" network routeserver show -g "$group" -n "$server" \
    --query "join(' ', [routingState || 'None', to_string(virtualRouterAsn), join(' ', virtualRouterIps || [''])])"
  read -r state asn addresses <<<"$found"
  [ "$state" != Provisioned ] || [ "$(wc -w <<<"$addresses")" != 2 ] || break
  [ "$state" != Failed ] ||
    die 'Azure failed to make it' "the Route Server $server in $group" "delete it, and run this again: az network routeserver delete -g $group -n $server"
  [ "$state" != None ] ||
    die 'it has no ipConfiguration: its making was cut off' "the Route Server $server in $group" \
      "delete it, and run this again: az network routeserver delete -g $group -n $server"
  [ -z "${opt[dry-run]}" ] || break
  [ $SECONDS -lt $deadline ] ||
    die "it is not ready ($state) after ${opt[timeout]} s" "the Route Server $server in $group" 'run this again: it goes on waiting'
  sleep "${AZ_PAUSE:-15}"
done
printf 'asn %s\n' "$asn"
# shellcheck disable=SC2086  # two words on purpose
printf 'address %s\n' $addresses
done_

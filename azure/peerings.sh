#!/usr/bin/env bash
# One bgpConnection for each node: Azure takes one write at a time, and a connection takes it 2 to 4 minutes.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

option resource-group needed '' 'the resource group of the Route Server'
option route-server one route-server 'the Route Server'
option node needed-many '' 'NAME=ADDRESS: a node that peers and its address; the peering is called bgp-agent-NAME'
option asn needed '' "the nodes' AS number, bgp.asn of the agents' configuration"
option max-peers one 8 'peers that a Route Server takes; Azure documents 8, some report 16'
parse 'Makes the peerings of a Route Server with the nodes, one after the other, and waits for each.' "$@"

group=${opt[resource-group]} server=${opt[route-server]} asn=${opt[asn]}
here="the Route Server $server in the resource group $group"

[[ $asn =~ ^[0-9]{1,5}$ ]] && [ "$asn" -ge 1 ] && [ "$asn" -le 65535 ] ||
  die "$asn is no AS number that Route Server takes from a peer" "--asn" 'choose a 16-bit one, such as 64512'
case $asn in
  8074 | 8075 | 12076 | 65515 | 6551[7-9] | 65520 | 23456 | 6449[6-9] | 6450[0-9] | 6451[01] | 65535)
    die "the AS number $asn is reserved by Azure or IANA" "--asn" 'choose another one, such as 64512' ;;
esac

look id "$here" network routeserver show -g "$group" -n "$server" --query "join(' ', [id, routingState || 'None'])"
[ -n "$id" ] || die 'there is no such Route Server' "$here" 'route-server.sh makes one'
read -r id state <<<"$id"
[ "$state" = Provisioned ] || die "it is not ready: routingState $state" "$here" 'run route-server.sh: it waits until it is'

declare -A peer_state=() peer_at=()
count=0
# From this api-version on Azure shows route maps: a PUT that does not know of one takes it off.
read_peers() {
  local name address as state maps
  peer_state=() peer_at=() count=0
  look peers "the peerings of $server" rest --method get --url "$id/bgpConnections?api-version=2024-10-01" \
    --query "value[].join(' ', [name, properties.peerIp, to_string(properties.peerAsn), properties.provisioningState || '-', (properties.routingConfiguration.inboundRouteMap.id || properties.routingConfiguration.outboundRouteMap.id) && 'map' || '-'])"
  while read -r name address as state maps; do
    [ -n "$name" ] || continue
    count=$((count + 1))
    peer_state[$name]="$address $as $state $maps"
    peer_at[$address]=$name
  done <<<"$peers"
}

# Everything is judged before the first write.
read_peers
todo=()
room=$((opt[max-peers] - count))
for node in ${opt[node]}; do
  name=bgp-agent-${node%%=*} address=${node#*=}
  [[ $node == *=* && $address =~ ^([0-9]{1,3}\.){3}[0-9]{1,3}$ ]] ||
    usage_error "--node $node: write NAME=ADDRESS with an IPv4 address (Route Server has no IPv6)"
  [[ $name =~ ^[A-Za-z0-9._-]{1,79}[A-Za-z0-9_]$ ]] || usage_error "--node $node: Azure takes no such name: $name"
  other=${peer_at[$address]-}
  if [ -n "$other" ] && [ "$other" != "$name" ]; then
    read -r _ as state _ <<<"${peer_state[$other]}"
    [ "$as" = "$asn" ] || die "$address has a peering already, $other, with the AS number $as" "$here" \
      "give --asn $as, or delete it: az network routeserver peering delete -g $group --routeserver $server -n $other"
    say "$name: $address has a peering of another name, $other ($state); it is left as it is"
    continue
  fi
  case ${peer_state[$name]-} in
    "$address $asn Succeeded "*) ;;
    *' map') die "the peering $name has a route map, which az would take off" "$here" \
      "change it where the route map was set; wanted: peer $address, AS $asn" ;;
    '') todo+=("$name $address") && room=$((room - 1)) ;;
    *) todo+=("$name $address") ;; # Failed, or of another address or AS number
  esac
done
[ $room -ge 0 ] || die "that is $((-room)) peers too many: it has $count, and takes ${opt[max-peers]}" "$here" \
  'peer fewer nodes: those without a peering use the route table alone (fallback.mode: always); or --max-peers 16'

for each in "${todo[@]}"; do
  read -r name address <<<"$each"
  for try in 1 2 3; do
    # A PUT that ends as Failed leaves the peering there, so what az says is not the last word.
    attempt "peering $name with $address, AS $asn (2 to 4 minutes)" network routeserver peering create -g "$group" \
      --routeserver "$server" -n "$name" --peer-ip "$address" --peer-asn "$asn" || ended=$(cat "$complaint")
    [ -z "${opt[dry-run]}" ] || break
    read_peers
    [[ ${peer_state[$name]-} != "$address $asn Succeeded "* ]] || break
    printf '%s\n' "${ended-}" >"$complaint"
    [[ ${peer_state[$name]-} == *' Failed '* && $try != 3 ]] ||
      die "the peering $name is ${peer_state[$name]:-not there}" "$here" \
        'run this again: peerings that are right already are left alone'
    say "$name is Failed: it is written again"
  done
done
done_

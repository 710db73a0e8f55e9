#!/usr/bin/env bash
# IP forwarding on the network interface of every node that hosts pods: without it Azure drops what pods send and get.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

option resource-group needed '' 'the resource group of the interfaces, and of the virtual network'
option nic many '' 'a network interface of a node, name or ID'
option vnet one '' 'with --subnet: its virtual network'
option subnet many '' 'a subnet in which every interface is a node'
parse 'Turns IP forwarding on for the nodes'\'' network interfaces.

A uniform scale set has its interfaces in its model, and they are not changed here:
  az vmss update -g GROUP -n SET --set virtualMachineProfile.networkProfile.networkInterfaceConfigurations[0].enableIPForwarding=true
  az vmss update-instances -g GROUP -n SET --instance-ids "*"' "$@"

group=${opt[resource-group]}
[ -n "${opt[nic]}${opt[subnet]}" ] || usage_error 'name interfaces with --nic, or subnets with --vnet and --subnet'
[ -z "${opt[subnet]}" ] || [ -n "${opt[vnet]}" ] || usage_error '--subnet needs --vnet'

nics=${opt[nic]}
for subnet in ${opt[subnet]}; do
  look found "who is in the subnet $subnet" network vnet subnet show -g "$group" --vnet-name "${opt[vnet]}" -n "$subnet" \
    --query "ipConfigurations[].id"
  while read -r each; do
    case ${each,,} in
      */virtualmachinescalesets/*) [[ " ${sets-} " == *" ${each%/virtualMachines/*} "* ]] || sets+=" ${each%/virtualMachines/*}" ;;
      */networkinterfaces/*) nics+=" ${each%/ipConfigurations/*}" ;;
    esac
  done <<<"$found"
done
# shellcheck disable=SC2086  # names have no spaces
for nic in $(printf '%s\n' $nics | awk '!seen[tolower($0)]++'); do
  which=(-g "$group" -n "$nic")
  [[ $nic != /* ]] || which=(--ids "$nic")
  look found "the interface $nic" network nic show "${which[@]}" \
    --query "join(' ', [name, to_string(enableIPForwarding || enableIpForwarding || \`false\`)])"
  [ -n "$found" ] || die 'there is no such network interface' "$nic, resource group $group" 'see az network nic list'
  [[ $found != *' true' ]] || continue
  change "turning IP forwarding on for ${nic##*/}" \
    'see whether your account may write the interface and join its subnet and security group' \
    network nic update "${which[@]}" --ip-forwarding true --set "tags.$mark-ip-forwarding=on"
done
for each in ${sets-}; do
  say "note: ${each##*/} is a uniform scale set: --help has the two commands for it"
done
done_

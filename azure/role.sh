#!/usr/bin/env bash
# The rights of the agents: role.json on the network's resource groups, role-limits.json on the subscription (one
# reading action), and with --manage-peering role-peering.json on the Route Server.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
folder=$(dirname "${BASH_SOURCE[0]}")

option resource-group needed-many '' "a resource group of nodes' interfaces, virtual network, route tables or Route Server"
option principal needed-many '' "the object ID of a node's identity: of its machine, or the user-assigned one of all"
option scope many '' 'assign there instead of on the resource groups: IDs of resources'
option manage-peering flag '' 'also let the agents write peerings (azure.manage_peering); needs --route-server'
option route-server one '' 'with --manage-peering: the Route Server, its ID or its name in the first resource group'
option no-limits flag '' 'leave out the right, on the whole subscription, to read how many routes a table takes'
parse 'Makes the custom roles of the agents and assigns them to the identities of the nodes.' "$@"

[ -z "${opt[manage-peering]}" ] || [ -n "${opt[route-server]}" ] || usage_error '--manage-peering needs --route-server'
look root 'the subscription' account show --query "join('', ['/subscriptions/', id])"
scopes=${opt[scope]}
for group in ${opt[resource-group]}; do
  [ -n "${opt[scope]}" ] || scopes+=" $root/resourceGroups/$group"
done
for principal in ${opt[principal]}; do
  [[ $principal =~ ^[0-9a-fA-F-]{36}$ ]] ||
    die "$principal is no object ID" '--principal' 'az vm identity show, or az identity show --query principalId, has it'
done

# define FILE: the role is there with exactly the actions of the file; leaves its ID in $role.
define() {
  local file=$folder/$1 name wanted held body
  name=$(sed -n 's/^ *"Name": "\(.*\)",$/\1/p' "$file")
  wanted=$(sed -n 's/^ *"\(Microsoft[^"]*\)",\{0,1\}$/\1/p' "$file" | sort)
  body=$(sed "s|\"SUBSCRIPTION\"|\"$root\"|" "$file")
  role_named "$name"
  if [ -z "$role" ]; then
    change "making the role $name" 'only an owner or a user access administrator may make roles' \
      role definition create --role-definition "$body"
    role_named "$name"
    return
  fi
  look held "the role $name" rest --method get --url "$role?api-version=2022-04-01" --query 'properties.permissions[].actions[]'
  [ "$(sort <<<"$held")" != "$wanted" ] || return 0
  change "giving the role $name exactly the actions of $1" 'only an owner or a user access administrator may change roles' \
    role definition update --role-definition "$body"
}

role_named() {
  look role "the role $1" rest --method get \
    --url "$root/providers/Microsoft.Authorization/roleDefinitions?api-version=2022-04-01&\$filter=roleName%20eq%20'$1'" \
    --query "value[?properties.type=='CustomRole'].id"
}

# assign SCOPE: to every principal that does not have $role there.
assign() {
  local scope=$1 principal held
  [ -n "$role" ] || { say "would assign it to ${opt[principal]} on $scope"; changes=$((changes + 1)); return; }
  look held "who has rights on $scope" rest --method get \
    --url "$scope/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01&\$filter=atScope()" \
    --query "value[].join(' ', [properties.principalId, properties.roleDefinitionId, properties.scope])"
  for principal in ${opt[principal]}; do
    [[ $'\n'${held,,}$'\n' != *$'\n'"${principal,,} ${role,,} ${scope,,}"$'\n'* ]] || continue
    change "assigning it to $principal on ${scope##*/}" \
      'only an owner or a user access administrator may assign roles; the object ID has to exist' \
      role assignment create --assignee-object-id "$principal" --assignee-principal-type ServicePrincipal \
      --role "$role" --scope "$scope"
  done
}

define role.json
for scope in $scopes; do assign "$scope"; done
if [ -z "${opt[no-limits]}" ]; then
  define role-limits.json
  assign "$root"
fi
if [ -n "${opt[manage-peering]}" ]; then
  server=${opt[route-server]}
  [[ $server == /* ]] || server=$root/resourceGroups/${opt[resource-group]%% *}/providers/Microsoft.Network/virtualHubs/$server
  define role-peering.json
  assign "$server"
fi
done_

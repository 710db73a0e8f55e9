"""Types that the rules hardly touch: resource groups, public addresses, roles."""

from __future__ import annotations

from typing import Final

from azure_twin.core import ids
from azure_twin.core.errors import ArmError, Json, bad_request
from azure_twin.core.kinds.base import Kind, Put, World
from azure_twin.core.rbac import ASSIGNMENTS, DEFINITIONS, definition, scope_of
from azure_twin.core.resources import Resource
from azure_twin.core.specs import PublicIpSpec, RoleAssignmentSpec, RoleDefinitionSpec

GROUP: Final = "Microsoft.Resources/resourceGroups"
PUBLIC_IP: Final = "Microsoft.Network/publicIPAddresses"


def check_assignment(world: World, put: Put) -> Json:
    """The role exists; its scope is the id that the assignment stands under; nobody has it twice there."""
    spec = put.spec
    assert isinstance(spec, RoleAssignmentSpec)  # noqa: S101  # the registry pairs them
    if definition(world.store, spec.role_definition_id) is None:
        raise bad_request(
            "RoleDefinitionDoesNotExist",
            f"The specified role definition with ID '{spec.role_definition_id}' does not exist.",
        )
    scope = put.resource_id.rpartition("/providers/")[0]
    for other in world.store.of_kind(ASSIGNMENTS):
        held = other.spec(RoleAssignmentSpec)
        if (
            other.key != ids.key(put.resource_id)
            and scope_of(other) == ids.key(scope)
            and held.principal_id.lower() == spec.principal_id.lower()
            and _guid(held.role_definition_id) == _guid(spec.role_definition_id)
        ):
            raise ArmError(409, "RoleAssignmentExists", "The role assignment already exists.")
    return put.properties | {"scope": scope, "principalType": spec.principal_type}


def _guid(role_definition_id: str) -> str:
    return ids.last(role_definition_id).lower()


def check_definition(world: World, put: Put) -> Json:
    """A role that the subscription made itself, with a name of its own."""
    spec = put.spec
    assert isinstance(spec, RoleDefinitionSpec)  # noqa: S101  # the registry pairs them
    for other in world.store.of_kind(DEFINITIONS):
        same_name = other.spec(RoleDefinitionSpec).role_name.lower() == spec.role_name.lower()
        if same_name and other.name.lower() != put.name.lower():
            raise ArmError(
                409,
                "RoleDefinitionWithSameNameExists",
                f"A custom role with the same name '{spec.role_name}' already exists in this directory. "
                "Use a different name.",
            )
    return put.properties | {"type": "CustomRole"}


def check_delete_definition(world: World, role: Resource) -> None:
    """A role that somebody has stays."""
    for assignment in world.store.of_kind(ASSIGNMENTS):
        if _guid(assignment.spec(RoleAssignmentSpec).role_definition_id) == role.name.lower():
            raise bad_request("RoleDefinitionHasAssignments", "There are existing role assignments referencing role.")


KINDS: Final = (
    Kind(GROUP, "ResourceGroup", lock="none", seconds=lambda _: 0.0),
    Kind(PUBLIC_IP, "PublicIpAddress", PublicIpSpec),
    Kind(DEFINITIONS, "RoleDefinition", RoleDefinitionSpec, check_definition, check_delete=check_delete_definition,
         lock="none", seconds=lambda _: 0.0),
    Kind(
        ASSIGNMENTS, "RoleAssignment", RoleAssignmentSpec, check_assignment, lock="none", seconds=lambda _: 0.0,
        effect=lambda timing: timing.rbac_effect,
    ),
)  # fmt: skip

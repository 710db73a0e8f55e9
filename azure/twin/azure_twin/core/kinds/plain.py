"""Types that the rules hardly touch: resource groups, public addresses, roles."""

from __future__ import annotations

from typing import Final

from azure_twin.core.errors import Json, bad_request
from azure_twin.core.kinds.base import Kind, Put, World
from azure_twin.core.rbac import ASSIGNMENTS, DEFINITIONS, definition
from azure_twin.core.specs import PublicIpSpec, RoleAssignmentSpec, RoleDefinitionSpec

GROUP: Final = "Microsoft.Resources/resourceGroups"
PUBLIC_IP: Final = "Microsoft.Network/publicIPAddresses"


def check_assignment(world: World, put: Put) -> Json:
    """The role exists; its scope is the id that the assignment stands under."""
    spec = put.spec
    assert isinstance(spec, RoleAssignmentSpec)  # noqa: S101  # the registry pairs them
    if definition(world.store, spec.role_definition_id) is None:
        raise bad_request(
            "RoleDefinitionDoesNotExist",
            f"The specified role definition with ID '{spec.role_definition_id}' does not exist.",
        )
    scope = put.resource_id.rpartition("/providers/")[0]
    return put.properties | {"scope": scope, "principalType": spec.principal_type}


def check_definition(_: World, put: Put) -> Json:
    """A role that the subscription made itself."""
    return put.properties | {"type": "CustomRole"}


KINDS: Final = (
    Kind(GROUP, "ResourceGroup", lock="none", seconds=lambda _: 0.0),
    Kind(PUBLIC_IP, "PublicIpAddress", PublicIpSpec),
    Kind(DEFINITIONS, "RoleDefinition", RoleDefinitionSpec, check_definition, lock="none", seconds=lambda _: 0.0),
    Kind(
        ASSIGNMENTS, "RoleAssignment", RoleAssignmentSpec, check_assignment, lock="none", seconds=lambda _: 0.0,
        effect=lambda timing: timing.rbac_effect,
    ),
)  # fmt: skip

"""Who may do what: role definitions and assignments, actions with wildcards, inherited from scope to scope.

learn.microsoft.com/azure/role-based-access-control: an action is allowed when a role assigned at the scope or above
has it in
``actions`` and not in ``notActions``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from azure_twin.core import ids
from azure_twin.core.errors import ArmError
from azure_twin.core.resources import Resource, Store
from azure_twin.core.specs import Permission, RoleAssignmentSpec, RoleDefinitionSpec

ASSIGNMENTS: Final = "Microsoft.Authorization/roleAssignments"
DEFINITIONS: Final = "Microsoft.Authorization/roleDefinitions"
_AUTHORIZATION_WRITES: Final = ["Microsoft.Authorization/*/Delete", "Microsoft.Authorization/*/Write"]

#: Azure's built-in roles that network deployments use, by the guid that Azure gives them.
BUILT_IN: Final = {
    "8e3af657-a8ff-443c-a75c-2fe8c4bcb635": RoleDefinitionSpec(
        role_name="Owner", permissions=[Permission(actions=["*"])], type="BuiltInRole"
    ),
    "b24988ac-6180-42a0-ab88-20f7382dd24c": RoleDefinitionSpec(
        role_name="Contributor",
        permissions=[Permission(actions=["*"], not_actions=_AUTHORIZATION_WRITES)],
        type="BuiltInRole",
    ),
    "acdd72a7-3385-48ef-bd42-f606fba81ae7": RoleDefinitionSpec(
        role_name="Reader", permissions=[Permission(actions=["*/read"])], type="BuiltInRole"
    ),
    "4d97b98b-1d4f-4787-a291-c67834d212e7": RoleDefinitionSpec(
        role_name="Network Contributor",
        permissions=[
            Permission(actions=["Microsoft.Network/*", "Microsoft.Resources/subscriptions/resourceGroups/read"])
        ],
        type="BuiltInRole",
    ),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: object id, client id, and whether this is the twin itself (which may do everything)."""

    object_id: str
    client_id: str
    itself: bool = False


ITSELF: Final = Principal("azure-twin", "azure-twin", itself=True)


@lru_cache(maxsize=1024)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in text.lower().split("*")))


@lru_cache(maxsize=65536)
def matches(pattern: str, action: str) -> bool:
    """Whether an action pattern covers an action, without regard to case."""
    return _pattern(pattern).fullmatch(action.lower()) is not None


def permits(permissions: list[Permission], action: str) -> bool:
    """Whether one of the permissions allows the action and does not take it back."""
    return any(
        any(matches(each, action) for each in permission.actions)
        and not any(matches(each, action) for each in permission.not_actions)
        for permission in permissions
    )


def scope_of(assignment: Resource) -> str:
    """Where an assignment holds: the id before ``/providers/Microsoft.Authorization``, as a key."""
    return assignment.key.rpartition("/providers/microsoft.authorization/")[0]


def definition(store: Store, definition_id: str) -> RoleDefinitionSpec | None:
    """A role by its id, wherever it was written down: the guid at the end counts."""
    guid = ids.last(definition_id).lower()
    if guid in BUILT_IN:
        return BUILT_IN[guid]
    found = next((each for each in store.of_kind(DEFINITIONS) if each.name.lower() == guid), None)
    return found.spec(RoleDefinitionSpec) if found else None


def allowed(store: Store, principal: Principal, action: str, scope: str) -> bool:
    """Whether the principal may do ``action`` at ``scope`` by the assignments that are in effect."""
    if principal.itself:
        return True
    where = ids.key(scope)
    for assignment in store.of_kind(ASSIGNMENTS):
        spec = assignment.spec(RoleAssignmentSpec)
        if spec.principal_id.lower() != principal.object_id.lower():
            continue
        at = scope_of(assignment)
        if where != at and not where.startswith(at + "/"):
            continue
        role = definition(store, spec.role_definition_id)
        if role is not None and permits(role.permissions, action):
            return True
    return False


def require(store: Store, principal: Principal, action: str, scope: str) -> None:
    """Raise 403 ``AuthorizationFailed`` unless allowed."""
    if not allowed(store, principal, action, scope):
        raise ArmError(
            403,
            "AuthorizationFailed",
            f"The client '{principal.client_id}' with object id '{principal.object_id}' does not have authorization to "
            f"perform action '{action}' over scope '{scope}' or the scope is invalid. If access was recently granted, "
            "please refresh your credentials.",
        )


def require_linked(store: Store, principal: Principal, action: str, scope: str, linked: list[tuple[str, str]]) -> None:
    """Raise 403 ``LinkedAuthorizationFailed`` unless every ``(action, scope)`` that a write joins is allowed."""
    missing = [(each, at) for each, at in linked if not allowed(store, principal, each, at)]
    if missing:
        actions, scopes = ",".join(each for each, _ in missing), ",".join(at for _, at in missing)
        raise ArmError(
            403,
            "LinkedAuthorizationFailed",
            f"The client '{principal.client_id}' with object id '{principal.object_id}' has permission to "
            "perform action "
            f"'{action}' on scope '{scope}'; however, it does not have permission to perform action(s) "
            f"'{actions}' on the "
            f"linked scope(s) '{scopes}' (respectively) or the linked scope(s) are invalid.",
        )

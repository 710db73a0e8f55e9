"""ARM without HTTP: a request and the time go in, an answer comes out, and what changed waits in ``changes()``.

Order of the gates, as the resource manager has them: the path, faults on demand, token (401), throttling (429),
subscription (404), api-version (400), rights (403), then the resource type's own rules.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from azure_twin.core import ids, rbac, versions
from azure_twin.core.effects import Effects
from azure_twin.core.errors import ArmError, Json, child_not_found, not_found
from azure_twin.core.faults import Fault, Faults
from azure_twin.core.kinds import KINDS, World
from azure_twin.core.kinds.plain import GROUP
from azure_twin.core.messages import Request, Response, refusal
from azure_twin.core.operations import Operation, Operations
from azure_twin.core.queries import QUERIES, Answers
from azure_twin.core.rbac import ITSELF, Principal
from azure_twin.core.reads import Reads
from azure_twin.core.render import render
from azure_twin.core.resources import Change, Store
from azure_twin.core.settings import Settings
from azure_twin.core.throttle import Throttle
from azure_twin.core.tokens import Tokens
from azure_twin.core.writes import Writes, Written

_THROTTLED_AS: Final = {"GET": "read", "HEAD": "read", "DELETE": "delete"}
_OPERATIONS: Final = "microsoft.network/locations/operations"
_RESULTS: Final = "microsoft.network/locations/operationresults"


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that passed the gates."""

    request: Request
    target: ids.Target
    world: World
    who: Principal
    fault: Fault | None


class Arm:
    """The resource manager of one subscription."""

    def __init__(self, settings: Settings, tokens: Tokens, answers: Answers) -> None:
        self.settings = settings
        self.tokens = tokens
        self.answers = answers
        self.store = Store("arm")
        self.effective = Store("fabric")
        self.operations = Operations()
        self.effects = Effects(self.effective, settings.timing)
        self.throttle = Throttle(settings.throttling)
        self.faults = Faults()
        self.writes = Writes(self.store, self.operations, self.effects)
        self.reads = Reads(settings)
        self.requests: Counter[str] = Counter()  # since the start, by method; not the twin's own

    def handle(self, request: Request, now: float, *, itself: bool = False) -> Response:
        """Answer one request. ``itself``: the twin's own, which passes every gate but the type's rules."""
        self.handle_timer(now)
        if not itself:
            self.requests[request.method] += 1
        try:
            target = ids.parse(request.path, post=request.method == "POST")
        except ids.IdError as error:
            return refusal(ArmError(404, "InvalidResourcePath", f"The request path is not valid: {error}."))
        fault = None if itself else self.faults.meet(request.method, request.path)
        if fault and fault.kind in {"hang", "close"} and not fault.apply:
            return Response(504, hang=fault.seconds if fault.kind == "hang" else 0.0, close=True)
        try:
            answer = self._gated(request, target, fault, now, itself=itself)
        except ArmError as error:
            answer = refusal(error)
        self.effects.handle_timer(now)
        if fault and fault.kind in {"hang", "close"}:
            return replace(answer, hang=fault.seconds if fault.kind == "hang" else 0.0, close=True)
        return answer

    def handle_timer(self, now: float) -> None:
        """End what is due."""
        self.writes.handle_timer(now)
        self.effects.handle_timer(now)

    def timer(self) -> float | None:
        """When :meth:`handle_timer` wants to be called next."""
        times = [each for each in (self.operations.timer(), self.effects.timer()) if each is not None]
        return min(times, default=None)

    def changes(self) -> list[Change | Operation]:
        """What the journal must hold before an answer goes out; gives it once."""
        found: list[Change | Operation] = [*self.store.changes, *self.effective.changes, *self.operations.changes]
        for each in (self.store.changes, self.effective.changes, self.operations.changes):
            each.clear()
        return found

    def snapshot(self) -> list[Change | Operation]:
        """Everything there is, as lines of a journal."""
        held: list[Change | Operation] = [Change("arm", each.key, each) for each in self.store]
        held += [Change("fabric", each.key, each) for each in self.effective]
        return held + self.operations.kept()

    def load(self, line: Change | Operation, /) -> None:
        """Take over one line of the journal."""
        if isinstance(line, Operation):
            self.operations.load(line)
        else:
            (self.store if line.store == "arm" else self.effective).load(line)

    def loaded(self, now: float) -> None:
        """After the last line: what was waiting for its effect goes on waiting."""
        busy = [key for each in self.operations.running() for key in (*each.touched, *each.removed)]
        self.effects.catch_up(self.store, busy, now)

    def _gated(
        self, request: Request, target: ids.Target, fault: Fault | None, now: float, *, itself: bool
    ) -> Response:
        who = ITSELF if itself else self.tokens.check(request.headers.get("authorization", ""), now)
        if fault and fault.kind in {"answer", "lock"}:
            raise fault.error()
        polling = target.kind.lower() in {_OPERATIONS, _RESULTS}
        kind_of_request = _THROTTLED_AS.get(request.method, "write")
        headers = {} if itself else self.throttle.admit(who.object_id, kind_of_request, now)
        if target.subscription and target.subscription.lower() != self.settings.subscription.lower():
            raise ArmError(404, "SubscriptionNotFound", f"The subscription '{target.subscription}' could not be found.")
        version = versions.check(target.kind, request.query.get("api-version"), self.settings.location)
        world = World(self.store, self.effective, self.settings, version, now, self.operations)
        if not polling:
            self._authorize(request, target, who)
        route = _ROUTES.get(request.method)
        if route is None:
            raise ArmError(
                405, "MethodNotAllowed", f"The requested resource does not support http method '{request.method}'."
            )
        answer = route(self, _Asked(request, target, world, who, fault))
        return replace(answer, headers={**answer.headers, **headers, "x-ms-request-id": str(uuid.uuid4())})

    def _authorize(self, request: Request, target: ids.Target, who: Principal) -> None:
        kind = KINDS.get(target.kind.lower())
        name = kind.name if kind else target.kind
        verb = {"GET": "read", "HEAD": "read", "DELETE": "delete", "PUT": "write", "PATCH": "write"}.get(request.method)
        action = f"{name}/{verb}" if verb else f"{name}/{target.action or 'unknown'}/action"
        if target.kind == "Microsoft.Resources/subscriptions":
            return  # whoever has a token sees the subscription
        rbac.require(self.effective, who, action, target.resource_id)

    def _get(self, asked: _Asked) -> Response:
        target, kind = asked.target, asked.target.kind.lower()
        if kind in {_OPERATIONS, _RESULTS}:
            return self._poll(asked, by_location=kind == _RESULTS)
        if (body := self.reads.special(asked.world, target, asked.request.query)) is not None:
            return Response(200, body)
        found = None if target.is_collection else self.store.get(target.resource_id)
        if found is None or kind not in KINDS:
            raise self._missing(target)
        shown = render(asked.world, found)
        etag = shown.get("etag")
        return Response(200, shown, {"ETag": str(etag)} if etag else {})

    def _missing(self, target: ids.Target) -> ArmError:
        if target.kind.lower() not in KINDS:
            namespace, _, types = target.kind.partition("/")
            return ArmError(
                404,
                "InvalidResourceType",
                f"The resource type '{types}' could not be found in the namespace '{namespace}'.",
            )
        if target.kind.lower() == GROUP.lower():
            return ArmError(404, "ResourceGroupNotFound", f"Resource group '{target.name}' could not be found.")
        if target.kind.count("/") > 1 and self.store.get(ids.parent(target.resource_id)) is not None:
            return child_not_found(target.resource_id)
        return not_found(target.kind, target.name, target.group)

    def _put(self, asked: _Asked) -> Response:
        if asked.target.kind.lower() not in KINDS or asked.target.is_collection:
            raise (
                self._missing(asked.target)
                if asked.target.kind.lower() not in KINDS
                else ArmError(405, "MethodNotAllowed", "A collection cannot be written.")
            )
        return self._written(asked, self.writes.put(asked.world, asked.request, asked.target, asked.who, asked.fault))

    def _patch(self, asked: _Asked) -> Response:
        if asked.target.kind.lower() not in KINDS or asked.target.is_collection:
            raise self._missing(asked.target)
        return self._written(asked, self.writes.patch_tags(asked.world, asked.request, asked.target))

    def _delete(self, asked: _Asked) -> Response:
        if asked.target.kind.lower() not in KINDS or asked.target.is_collection:
            raise self._missing(asked.target)
        return self._written(
            asked, self.writes.delete(asked.world, asked.request, asked.target, asked.who, asked.fault)
        )

    def _written(self, asked: _Asked, written: Written) -> Response:
        headers = self._links(asked, written.operation) if written.operation else {}
        if asked.request.method == "PUT":
            headers.pop("Location", None)
        if written.resource is None:
            return Response(written.status, None, headers)
        shown = render(asked.world, written.resource)
        if "etag" in shown:
            headers["ETag"] = str(shown["etag"])
        return Response(written.status, shown, headers)

    def _links(self, asked: _Asked, operation: Operation) -> dict[str, str]:
        place = (
            f"{asked.request.base}/subscriptions/{self.settings.subscription}/providers/Microsoft.Network/locations/"
            f"{self.settings.location}"
        )
        version = f"?api-version={asked.world.version}"
        headers = {
            "Azure-AsyncOperation": f"{place}/operations/{operation.id}{version}",
            "Location": f"{place}/operationResults/{operation.id}{version}",
        }
        if self.settings.timing.retry_after and operation.status == "InProgress":
            headers["Retry-After"] = str(self.settings.timing.retry_after)
        return headers

    def _poll(self, asked: _Asked, *, by_location: bool) -> Response:
        operation = self.operations.get(asked.target.name)
        if operation is None or (operation.owner and operation.owner != asked.who.object_id):
            raise ArmError(404, "OperationNotFound", f"Operation {asked.target.name} was not found.")
        running = operation.status == "InProgress"
        headers = self._links(asked, operation) if running else {}
        if not by_location:
            return Response(200, operation.document(), headers)
        if running:
            return Response(202, None, headers)
        if operation.error is not None:
            return Response(400, {"error": operation.error})
        if operation.query:
            return Response(200, self._query(asked.world, operation.query, operation.target))
        found = self.store.get(operation.target)
        return Response(200, render(asked.world, found)) if found else Response(204)

    def _post(self, asked: _Asked) -> Response:
        target = asked.target
        query = QUERIES.get((target.kind.lower(), target.action.lower()))
        if query is None:
            raise ArmError(404, "InvalidResourceType", f"There is no action '{target.action}' on '{target.kind}'.")
        found = self.store.get(target.resource_id)
        if found is None:
            raise self._missing(target)
        query.check(asked.world, found)
        seconds = self.settings.timing.query + (
            asked.fault.seconds if asked.fault and asked.fault.kind == "slow" else 0
        )
        if not seconds:
            return Response(200, self._query(asked.world, query.name, found.id))
        operation = self.operations.begin(
            query.name,
            lock=f"query {uuid.uuid4()}",
            target=found.id,
            method="POST",
            now=asked.world.now,
            seconds=seconds,
            query=query.name,
            owner=asked.who.object_id,
            fails=asked.fault.failure() if asked.fault and asked.fault.kind == "fail" else None,
        )
        return Response(202, None, self._links(asked, operation))

    def _query(self, world: World, name: str, resource_id: str) -> Json:
        found = self.store.get(resource_id)
        if found is None:
            raise child_not_found(resource_id)
        return self.answers.answer(world, name, found)


_ROUTES: Final[dict[str, Callable[[Arm, _Asked], Response]]] = {
    "GET": Arm._get,  # noqa: SLF001  # the table of verbs belongs to the class
    "HEAD": Arm._get,  # noqa: SLF001
    "PUT": Arm._put,  # noqa: SLF001
    "PATCH": Arm._patch,  # noqa: SLF001
    "DELETE": Arm._delete,  # noqa: SLF001
    "POST": Arm._post,  # noqa: SLF001
}

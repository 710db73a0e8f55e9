"""The one place where the parts meet.

Requests in, the journal before the answer, and the shells told what should be.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from aiohttp import web

from azure_twin import control as control_api
from azure_twin.answers import RouteAnswers
from azure_twin.config import Config
from azure_twin.containers.members import INSTANCE, Members
from azure_twin.core import login
from azure_twin.core.arm import Arm
from azure_twin.core.errors import ArmError, Json
from azure_twin.core.faults import Faults
from azure_twin.core.forwarding import Planner, explain, ports_of
from azure_twin.core.imds import Event, Imds
from azure_twin.core.kinds.base import World
from azure_twin.core.kinds.hubs import INSTANCES
from azure_twin.core.learned import Instance, Learned
from azure_twin.core.messages import Request, Response, refusal
from azure_twin.core.route_server import RouteServer, route_server
from azure_twin.core.tokens import Tokens
from azure_twin.fabric.fabric import IMDS, Attachment, Fabric
from azure_twin.fabric.namespaces import Namespace, listening_socket
from azure_twin.http.server import Handler, bound, listen
from azure_twin.journal import Journal, Offset
from azure_twin.route_server.bird_text import Peer
from azure_twin.route_server.instance import RouteServerInstance, Wanted
from azure_twin.route_server.process import Launch, as_child
from azure_twin.seed import seed
from azure_twin.status import status_of

log = logging.getLogger("azure_twin")
_VERSION: Final = "2025-07-01"  # the api-version of the twin's own looks at its resources
QUIET: Final = 5.0  # seconds that an order of /twin waits at most for what it asked
SLOWEST: Final = 3600.0  # seconds; the timer is set anew at least this often


class Twin:
    """A twin from a configuration; :meth:`run` brings it up and keeps it until cancelled."""

    def __init__(self, config: Config, *, clock: Callable[[], float] = time.time) -> None:
        self.config = config
        self.settings = config.settings()
        self.body_bytes = self.settings.limits.body_bytes
        self._clock = clock
        self.journal = Journal(Path(config.state) if config.state else None)
        self.tokens = Tokens(self.journal.secret, config.tenant, config.subscription)
        timing, limits = self.settings.timing, self.settings.limits
        self.instances = [Instance(limits.dampening, timing.bgp_effect) for _ in range(INSTANCES)]
        self.answers = RouteAnswers(self.instances)
        self.arm = Arm(self.settings, self.tokens, self.answers)
        self.identities = {each.name: each for each in config.identities}
        self.imds = Imds(self.settings, self.tokens, self.identities, config.vm_values())
        self.planner = Planner(self.arm.effective, self.instances, self.settings.rules, self.settings.vm_nics)
        self.answers.planner = self.planner
        self.orders: list[control_api.State] = ["up"] * INSTANCES
        self.lacks: list[tuple[str, ...]] = [()] * INSTANCES
        self.silent: set[str] = set()
        self.birds: list[RouteServerInstance] = []
        self.fabric: Fabric | None = None
        self.members: Members | None = None
        self.ready = asyncio.Event()
        self._version = -1
        self._peered: frozenset[str] | None = None
        self._server: RouteServer | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._failed: asyncio.Future[None] | None = None

    @property
    def faults(self) -> Faults:
        """Faults on demand."""
        return self.arm.faults

    def now(self) -> float:
        """The twin's time: the wall's, and what was added to it."""
        return self._clock() + self.journal.offset

    def open(self) -> None:
        """Read the journal, or seed an empty state from the file."""
        self.journal.open(self.arm.load)
        self.tokens.secret = self.journal.secret
        if self.journal.fresh:
            seed(self.arm, self.config, self.now())
        else:
            self.arm.loaded(self.now())
        self.arm.changes()
        self._compact()

    async def run(self) -> None:
        """Bring everything up; ends when cancelled, or when something that cannot be lived without failed."""
        self._failed = asyncio.get_running_loop().create_future()
        self.open()
        runners: list[web.ServerRunner] = []
        try:
            with tempfile.TemporaryDirectory(prefix="azure-twin-") as directory:
                async with asyncio.TaskGroup() as tasks:
                    if self.config.fabric.mode != "none":
                        await self._build(tasks, Path(directory))
                    runners += await self._listen()
                    self._tick()
                    self.ready.set()
                    await self._failed
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for runner in runners:
                await runner.cleanup()
            if self.fabric is not None:
                await self.fabric.close()
            self.journal.close()

    async def _build(self, tasks: asyncio.TaskGroup, directory: Path) -> None:
        config = self.config.fabric
        expected = {vm.name for vm in self.config.vms} | {f"{INSTANCE}{index}" for index in range(INSTANCES)}
        if config.mode == "containers":
            directory = Path(config.directory)
            self.members = Members(directory, config.tag, expected, self._members_changed)
            self.fabric = Fabric(config.tag, {}, {})
        else:
            self.fabric = Fabric(config.tag, *self._attachments())
        await self.fabric.build()
        for index in range(INSTANCES):
            self.birds.append(
                RouteServerInstance(
                    str(index),
                    directory / f"rs{index}",
                    self._launch(index),
                    self.settings.limits,
                    lambda routes, up, at=index: self._reported(at, routes, up=up),  # type: ignore[misc]
                    bird=self.config.bird,
                    put_drops_session=self.settings.rules.bgp_put_drops_session,
                )
            )
        for each in self.birds:
            tasks.create_task(each.run())
        self.fabric.applied = self._applied
        tasks.create_task(self.fabric.run())
        if self.members is not None:
            tasks.create_task(self.members.run(self.members.listening()))

    def _attachments(self) -> tuple[dict[str, Attachment], dict[int, Attachment]]:
        """Where the links end when all namespaces are here."""
        tag = self.config.fabric.tag
        vms = {
            vm.name: Attachment(vm.namespace or f"{tag}-{vm.name}", vm.interface, made=vm.namespace is None)
            for vm in self.config.vms
        }
        return vms, {index: Attachment(f"{tag}-rs{index}", "eth0", made=True) for index in range(INSTANCES)}

    def _launch(self, index: int) -> Launch:
        members, fabric = self.members, self.fabric
        if members is not None:
            return lambda argv: members.launch(index, argv)
        assert fabric is not None  # noqa: S101  # built before
        return as_child(Namespace(fabric.instances[index].namespace).command())

    def _members_changed(self) -> None:
        """A container came or went: its link goes with it."""
        fabric, members = self.fabric, self.members
        if fabric is None or members is None:
            return
        here = {name: (each.namespace.name, each.generation) for name, each in members.here.items()}
        interfaces = {vm.name: vm.interface for vm in self.config.vms}
        fabric.vms = {
            name: Attachment(*here[name][:1], interface, made=False, generation=here[name][1])
            for name, interface in interfaces.items()
            if name in here
        }
        fabric.instances = {
            index: Attachment(*here[name][:1], "eth0", made=False, generation=here[name][1])
            for index in range(INSTANCES)
            if (name := f"{INSTANCE}{index}") in here
        }
        for index, bird in enumerate(self.birds):
            if index not in fabric.instances:
                bird.away()
        self._version = -1
        self._settle()

    async def _listen(self) -> list[web.ServerRunner]:
        runners = []
        for each in self.config.listens():
            handler = Handler(self, control=each.controls)
            runners.append(await listen(handler, bound(each.address), certificate=each.certificate, key=each.key))
        if self.fabric is not None and self.config.fabric.imds:
            listening = self.fabric.namespace.inside(lambda: listening_socket(IMDS, 80))
            runners.append(await listen(Handler(self, control=False), listening))
        return runners

    def serve(self, request: Request, *, control: bool) -> Response:
        """Answer one request; what it changed is in the journal before this returns."""
        path = request.path.lower()
        if path.startswith("/subscriptions"):
            answer = self.arm.handle(request, self.now())
            self._settle()
            return answer
        if path.startswith("/twin/") and control:
            return control_api.serve(self, request)
        if path.startswith("/metadata/"):
            return self._metadata(request)
        if path.endswith("/oauth2/v2.0/token") and request.method == "POST":
            return login.token(request, self.tokens, self.identities.values(), self.now())
        if path.endswith("/.well-known/openid-configuration"):
            return Response(200, login.openid(request.base, self.config.tenant))
        return refusal(ArmError(404, "NotFound", f"Nothing is served at {request.path[:200]}."))

    def _metadata(self, request: Request) -> Response:
        """``/metadata/endpoints`` is ARM's, all the rest is IMDS."""
        if request.path.lower() == "/metadata/endpoints":
            return Response(200, login.endpoints(request.base))
        now = self.now()
        ports = ports_of(self.arm.effective, self.settings.vm_nics)
        return self.imds.handle(request, ports, now)

    def status(self) -> Json:
        """What each instance holds, who holds which lock, what the links are, what waits."""
        return status_of(self)

    @property
    def settled(self) -> bool:
        """Whether nothing waits: no delay runs, and kernel and BIRD are as they should be."""
        timers = [self.arm.timer(), *(each.timer() for each in self.instances)]
        return not any(each.pending for each in self._shells) and all(each is None for each in timers)

    def route(self, source: str, target: str) -> str:
        """What the fabric would do with a packet."""
        cut = {vm.name: "has no container now" for vm in self.config.vms if not self.is_here(vm.name)}
        return explain(self.planner, source, target, cut | dict.fromkeys(self.silent, "is silent by order"))

    def is_here(self, vm: str) -> bool:
        """Whether a VM has its network: a container may be away."""
        return self.members is None or vm in self.members.here

    async def quiet(self) -> None:
        """Wait until kernel and BIRD are as they should be, or for some seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(QUIET):
                while any(each.pending for each in self._shells):  # noqa: ASYNC110  # three tasks set it
                    await asyncio.sleep(0.002)

    @property
    def _shells(self) -> list[Fabric | RouteServerInstance]:
        return [*self.birds, *([self.fabric] if self.fabric else [])]

    def order_instance(
        self, index: int, state: control_api.State | None = None, lacks: Sequence[str] | None = None
    ) -> None:
        """Stop, kill, silence or bring back an instance; have it lack prefixes without a word."""
        if index >= len(self.orders):
            raise LookupError(f"there is no instance {index}, only 0 to {len(self.orders) - 1}")
        self.orders[index] = state or self.orders[index]
        self.lacks[index] = self.lacks[index] if lacks is None else tuple(sorted(set(lacks)))
        self._version = -1
        self._settle()

    def order_link(self, vm: str, *, silent: bool) -> None:
        """Drop every packet of a VM, or let them through again."""
        if vm not in self.settings.vm_nics:
            raise LookupError(f"there is no VM {vm!r}")
        (self.silent.add if silent else self.silent.discard)(vm)
        self._version = -1
        self._settle()

    def advance(self, seconds: float) -> None:
        """Move the clock ahead; what was due in between happens now."""
        self.journal.offset += seconds
        self.journal.append([Offset(self.journal.offset)])
        self._tick()

    def order_tokens(self, *, expire: bool, lifetime: float | None) -> None:
        """Expire tokens, or change how long they live."""
        if expire:
            self.tokens.revoked_before = self.now()
        if lifetime is not None:
            self.tokens.lifetime = lifetime

    def drain_throttle(self) -> None:
        """Empty the buckets."""
        self.arm.throttle.drain(self.now())

    def announce_event(self, event: Event) -> Json:
        """Announce a scheduled event."""
        made = self.imds.events.add(event, self.now())
        return {"event_id": made.event_id, "not_before": made.not_before}

    def _reported(self, index: int, routes: list[Learned], *, up: bool) -> None:
        """An instance told what it holds."""
        instance = self.instances[index]
        if instance.up != up:
            instance.up = up
            self._version = -1
        instance.report(routes, self.now())
        self._tick()

    def _tick(self) -> None:
        """Do what is due; set the timer for what is next."""
        now = self.now()
        self.arm.handle_timer(now)
        if sum(each.handle_timer(now) for each in self.instances):
            self._version = -1
        self._settle()

    def _settle(self) -> None:
        """Write the journal, tell the shells, arm the timer.

        Must follow every call into the core that may change something.
        """
        try:
            self.journal.append(self.arm.changes())
            if self.journal.is_large:
                self._compact()
        except OSError as error:
            if self._failed is not None and not self._failed.done():
                self._failed.set_exception(error)
            raise
        if self.fabric is not None and self._version != self.arm.effective.version:
            self._version = self.arm.effective.version
            self._tell()
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        times = [each for each in (self.arm.timer(), *(each.timer() for each in self.instances)) if each is not None]
        delay = min([max(0.0, min(times, default=SLOWEST) - self.now()), SLOWEST])
        try:
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick) if times else None
        except RuntimeError:  # no loop: the core is used alone
            self._timer = None

    def _compact(self) -> None:
        self.journal.compact(self.arm.snapshot())

    def _tell(self) -> None:
        """Say to the fabric what should be; BIRD hears of it when its links are there."""
        fabric = self.fabric
        if fabric is None:
            return
        effective = self.arm.effective
        server = route_server(World(effective, effective, self.settings, _VERSION, self.now(), self.arm.operations))
        self._server = server
        silent = frozenset(
            [f"n{index}" for index, vm in enumerate(self.settings.vm_nics) if vm in self.silent]
            + [f"i{index}" for index, order in enumerate(self.orders) if order == "silent"]
        )
        fabric.want(lambda: self.planner.plan(server, silent))

    def _applied(self) -> None:
        """The fabric is as it was asked to be: the instances' links are there."""
        server = self._server
        if server is None:
            return
        peers = tuple(Peer(each.address, each.asn, each.etag) for each in server.peers)
        for index, address in enumerate(server.addresses):
            order, linked = self.orders[index], self.fabric is not None and self.fabric.has_instance(index)
            running = linked and order not in {"down", "killed"}
            wanted = Wanted(
                address, server.gateway, peers, server.prefixes, self.lacks[index], running, killed=order == "killed"
            )
            self.birds[index].want(wanted)
        if self._peered is not None and server.peered - self._peered:  # a new peering: soft reset to all (FAQ-2025)
            for bird in self.birds:
                bird.refresh_all()
        self._peered = server.peered

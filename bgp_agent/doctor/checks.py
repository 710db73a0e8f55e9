"""The checks that look at this machine alone. Each takes a :class:`Context` and gives findings."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from bgp_agent import __version__
from bgp_agent.cli.answers import Status
from bgp_agent.config import Config, Loaded
from bgp_agent.control.client import listener
from bgp_agent.doctor.findings import Finding, Verdict
from bgp_agent.doctor.machine import CAP_NET_ADMIN, CAP_NET_BIND_SERVICE, Kernel, Machine, Process
from bgp_agent.lock import holder
from bgp_agent.passwords import Passwords

if TYPE_CHECKING:
    from bgp_agent.doctor.cloud import Facts

EXABGP: Final = "5.0.15"
"""The release that the project was built and measured with."""
BGP_PORT: Final = 179


@dataclass(frozen=True, slots=True)
class Context:
    """What the checks know. ``status``: of a running agent, None with ``silence`` (why) when none answers.

    ``cloud``: what Azure told, None where it is not configured; the config is then filled up with it.
    """

    machine: Machine
    loaded: Loaded | None
    problem: str = ""
    status: Status | None = None
    silence: str = "no agent answers"
    kernel: Kernel | None = None
    kernel_problem: str = ""
    cloud: Facts | None = None

    @property
    def config(self) -> Config | None:
        """The config, None when it cannot be used."""
        return self.loaded.config if self.loaded else None


Check: TypeAlias = Callable[[Context], Awaitable[Iterable[Finding]]]


def no_config(check: str) -> list[Finding]:
    """What a check says that cannot be made without a config."""
    return [Finding(check, Verdict.SKIP, "needs a config that can be used")]


async def config(context: Context) -> Iterable[Finding]:
    """Can the config be used."""
    if context.loaded is None:
        return [Finding("config", Verdict.FAIL, context.problem, "correct the file; `bgp-agent init FILE` writes one")]
    loaded = context.loaded
    found = [Finding("config", Verdict.WARN, one, f"correct {loaded.path}") for one in loaded.warnings]
    peers = len(loaded.config.bgp.peers)
    good = Finding("config", Verdict.OK, f"{loaded.path}: {peers} peers, AS {loaded.config.bgp.asn or 'from Azure'}")
    return [good, *found, *_passwords(loaded.config)]


def _passwords(config: Config) -> Iterator[Finding]:
    """Password files that cannot be used: their peers get no session."""
    passwords = Passwords()
    for peer in config.bgp.peers:
        why = passwords.read(peer.password_file)[1] if peer.password_file else None
        if why is not None:
            remedy = "write the peer's TCP-MD5 key into it, readable by the agent's user"
            yield Finding("config", Verdict.FAIL, f"peer {peer.address}: {why}", remedy)


async def capabilities(context: Context) -> Iterable[Finding]:
    """May the agent write routes, and the speaker listen at port 179."""
    config_, machine = context.config, context.machine
    folder = Path(config_.state_dir) if config_ else Path("/run/bgp-agent")
    agent, agent_who = _pid(folder / "agent.sock", "the agent")
    speaker, speaker_who = _pid(folder / "speaker.sock", "the speaker")
    found = []
    if machine.capabilities(agent) & 1 << CAP_NET_ADMIN:
        found.append(Finding("capabilities", Verdict.OK, f"CAP_NET_ADMIN for {agent_who}"))
    else:
        found.append(Finding(
            "capabilities", Verdict.FAIL, f"no CAP_NET_ADMIN for {agent_who}: it could not write a route",
            "start it as root, or with `AmbientCapabilities=CAP_NET_ADMIN` in its unit",
        ))  # fmt: skip
    if machine.first_port() <= BGP_PORT or machine.capabilities(speaker) & 1 << CAP_NET_BIND_SERVICE:
        found.append(Finding("capabilities", Verdict.OK, f"CAP_NET_BIND_SERVICE for {speaker_who}"))
    else:
        passive = config_ is not None and any(peer.passive for peer in config_.bgp.peers)
        found.append(Finding(
            "capabilities", Verdict.FAIL if passive else Verdict.WARN,
            f"no CAP_NET_BIND_SERVICE for {speaker_who}: "
            + ("passive peers cannot connect" if passive else "a peer that comes back is noticed a few seconds later"),
            "start it as root, or with `AmbientCapabilities=CAP_NET_BIND_SERVICE` in its unit",
        ))  # fmt: skip
    return found


def _pid(path: Path, who: str) -> tuple[int | None, str]:
    """The process that listens at a socket, else ourselves: what a process started like this one would have."""
    pid = listener(path)
    return (pid, f"{who} (process {pid})") if pid else (None, f"{who}, were it started by this user")


async def sysctls(context: Context) -> Iterable[Finding]:
    """Forwarding and reverse-path filtering."""
    if context.kernel is None:
        return [Finding("sysctls", Verdict.FAIL, f"the kernel cannot be read: {context.kernel_problem}", "see dmesg")]
    if not context.kernel.warnings:
        return [Finding("sysctls", Verdict.OK, "forwarding is on, and rp_filter is not in the way")]
    return [_sysctl(warning) for warning in context.kernel.warnings]


def _sysctl(warning: str) -> Finding:
    """A kernel warning carries its own remedy, a ``sysctl -w`` command."""
    seen, command, value = warning.partition("sysctl -w ")
    verdict = Verdict.FAIL if "forwarding" in warning else Verdict.WARN
    return Finding("sysctls", verdict, seen.rstrip(":; ") or warning, f"{command}{value}")


async def port(context: Context) -> Iterable[Finding]:
    """Is port 179 free, or ours."""
    taken, processes = context.machine.listeners(BGP_PORT)
    if not taken:
        return [Finding("port 179", Verdict.OK, "free")]
    if processes and all(_ours(one) for one in processes):
        return [Finding("port 179", Verdict.OK, f"ours: {_named(processes)}")]
    passive = context.config is not None and any(peer.passive for peer in context.config.bgp.peers)
    who = _named([one for one in processes if not _ours(one)]) if processes else "a process that only root can see"
    return [Finding(
        "port 179", Verdict.FAIL if passive else Verdict.WARN,
        f"taken by {who}: " + ("passive peers cannot connect" if passive else "peers that come back cannot knock"),
        f"end it, such as `systemctl disable --now {processes[0].name if processes else 'bird'}`",
    )]  # fmt: skip


def _ours(process: Process) -> bool:
    return process.is_ours("speaker") or any(Path(word).name == "exabgp" for word in process.words[:2])


def _named(processes: Iterable[Process]) -> str:
    return ", ".join(f"{one.name} (process {one.pid})" for one in processes)


async def exabgp(context: Context) -> Iterable[Finding]:
    """Is ExaBGP there, in the release that was tried."""
    del context
    try:
        found = version("exabgp")
    except PackageNotFoundError:
        return [Finding("exabgp", Verdict.FAIL, "not installed", f"pip install exabgp=={EXABGP}")]
    if found != EXABGP:
        seen = f"version {found}; this bgp-agent was tried with {EXABGP} alone"
        return [Finding("exabgp", Verdict.WARN, seen, f"pip install exabgp=={EXABGP}")]
    return [Finding("exabgp", Verdict.OK, f"version {found}")]


async def state_dir(context: Context) -> Iterable[Finding]:
    """Can the state directory be made and written."""
    if context.config is None:
        return no_config("state_dir")
    folder = Path(context.config.state_dir)
    first = next(one for one in (folder, *folder.parents) if one.exists())
    if not first.is_dir():
        return [Finding("state_dir", Verdict.FAIL, f"{first} is not a directory", "set state_dir to another place")]
    if not os.access(first, os.W_OK | os.X_OK):
        remedy = f"install -d -o $(id -un) {folder}, as root"
        return [Finding("state_dir", Verdict.FAIL, f"{first} cannot be written by this user", remedy)]
    stays = "" if first == folder else ", it will be made"
    return [Finding("state_dir", Verdict.OK, f"{folder}{stays}")]


async def agent(context: Context) -> Iterable[Finding]:
    """What the running agent says about itself."""
    status = context.status
    if status is None:
        return [Finding("agent", Verdict.SKIP, context.silence)]
    if not status.ready:
        return [Finding("agent", Verdict.FAIL, f"not ready: {status.reason}", "`bgp-agent status` shows the whole")]
    found = [Finding("agent", Verdict.OK, f"ready: {status.reason}")]
    if status.node.version != __version__:
        seen = f"runs version {status.node.version}, installed is {__version__}"
        found.append(Finding("agent", Verdict.WARN, seen, "restart it: no packet is lost"))
    return found


async def second_agent(context: Context) -> Iterable[Finding]:
    """Does more than one agent write to this kernel."""
    name = "second agent"
    machine = context.machine
    agents = [one for one in machine.processes() if one.is_ours("run") and machine.same_network(one.pid)]
    if len(agents) > 1:
        seen = f"{_named(agents)} all write to this kernel"
        return [Finding(name, Verdict.FAIL, seen, f"leave one: `kill {agents[-1].pid}`")]
    held = holder(Path(context.config.state_dir)) if context.config else None
    if held and context.status is None:
        return [Finding(name, Verdict.WARN, f"an agent holds the lock but does not answer: {held}", "bgp-agent stop")]
    return [Finding(name, Verdict.OK, "one runs" if agents or held else "none runs")]


async def cloud(context: Context) -> Iterable[Finding]:
    """Everything in Azure that the hand-over needs."""
    if context.cloud is None:
        return [Finding("azure", Verdict.SKIP, "not configured")]
    from bgp_agent.doctor.azure import judge  # noqa: PLC0415 - Azure's libraries, only where azure is configured

    return judge(context, context.cloud)


async def clock(context: Context) -> Iterable[Finding]:
    """Is the clock set: proofs and log lines of several nodes are compared by their times."""
    good = context.machine.clock_is_set()
    if good is None:
        return [Finding("clock", Verdict.SKIP, "the kernel does not say")]
    if good:
        return [Finding("clock", Verdict.OK, "synchronised")]
    seen = "not synchronised: the times in logs and proofs of several nodes do not compare"
    return [Finding("clock", Verdict.WARN, seen, "systemctl enable --now systemd-timesyncd")]

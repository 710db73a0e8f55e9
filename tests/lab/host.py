"""node-a of the lab as a real host: booted by systemd, and installed by the words of the how-to pages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from lab import proofs
from lab.evidence import Messages, RouteEvents
from lab.topology import Lab
from lab.traffic import Count
from tests.packaging.machine import ROOT, Machine

PAGES: Final = ROOT / "docs/how-to"
SPEAKER: Final = "bgp-agent-speaker"
AGENT: Final = "bgp-agent"
_BLOCK: Final = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(page: str, section: str | None = None) -> list[str]:
    """The commands of a how-to page in their order: every line of its ``sh`` blocks; of one section (its title)."""
    text = (PAGES / page).read_text()
    if section is not None:
        _, _, text = text.partition(f"\n## {section}\n")
        assert text, f"{page} has no section {section!r}"
        text = text.split("\n## ")[0]
    blocks = _BLOCK.findall(text)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


@dataclass(frozen=True, slots=True)
class Process:
    """A process as the kernel sees it. ``confined``: no new privileges, and a system call filter."""

    user: str
    capabilities: tuple[int, ...]  # the numbers of those it has or could ever get (linux/capability.h)
    confined: bool


class Host:
    """The machine of a lab's node, with the program at hand that ``make install`` would fetch from the network."""

    def __init__(self, lab: Lab, machine: Machine) -> None:
        self.lab = lab
        self.machine = machine
        self.node = lab.nodes["node-a"]
        self.files_before = machine.files()

    def follow(self, page: str, section: str | None = None, instead: Mapping[str, str] | None = None) -> dict[str, str]:
        """Do what a page says, command for command; what each printed. ``instead``: another command for one of them.

        A command that fails raises, and so does an ``instead`` for a command that the page does not have.
        """
        words = commands(page, section)
        replaced = dict(instead or {})
        assert replaced.keys() <= set(words), f"{page} does not say: {sorted(replaced.keys() - set(words))}"
        return {word: self.machine.run(replaced.get(word, word), timeout=240) for word in words}

    def provide(self, version: str) -> None:
        """Put a release where ``make install`` would: the wheel in a clean environment, dependencies from here."""
        place = f"/opt/bgp-agent/{version}"
        self.machine.run(f"python3 -m venv --without-pip {place}")
        self.machine.run(f"echo /opt/dependencies >$(echo {place}/lib/python3*/site-packages)/dependencies.pth")
        pip = f"{ROOT}/.venv/bin/python -m pip --python {place}/bin/python install -q --no-deps --no-index"
        self.machine.run(f"{pip} --disable-pip-version-check dist/bgp_agent-{version}-py3-none-any.whl", 120)

    def configure(self) -> None:
        """What a person would write into the files: the lab's config, by the paths of a host."""
        config = Path(self.node.config).read_text()
        config = config.replace(str(self.node.blocks_file), "blocks.yaml").replace(
            str(self.node.state_dir), "/run/bgp-agent"
        )
        for name, text in (("config.yaml", config), ("blocks.yaml", self.node.blocks_file.read_text())):
            self.machine.run(f"cat >/etc/bgp-agent/{name} <<'end'\n{text}\nend")

    def pid(self, unit: str) -> int:
        """The main process of a unit, as the machine numbers it."""
        return int(self.machine.show(unit, "MainPID"))

    def exabgps(self) -> list[int]:
        """The ExaBGPs, as the machine numbers them."""
        return [int(word) for word in self.machine.run("pgrep -f '/_exabgp/exabgp .*[.]conf$' || true").split()]

    def process(self, pid: int) -> Process:
        """One process of the machine."""
        told = self.machine.run(f"cat /proc/{pid}/status; ps -o user:40= -p {pid}")
        lines = dict(line.split(":\t", 1) for line in told.splitlines() if ":\t" in line)
        masks = [int(lines[f"Cap{kind}"], 16) for kind in ("Prm", "Eff", "Bnd", "Amb", "Inh")]
        capabilities = tuple(bit for bit in range(64) if any(mask >> bit & 1 for mask in masks))
        confined = lines["NoNewPrivs"] == "1" and lines["Seccomp"] == "2"
        return Process(told.splitlines()[-1].strip(), capabilities, confined)

    def converge(self, timeout: float = 60.0) -> None:
        """Wait until the whole lab is as it shall be; on failure with the services' last words."""
        try:
            self.lab.wait(timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.machine.ask('journalctl -n 60 --no-pager -o cat').stdout}") from error


class Watch:
    """Everybody who could notice something, from now on: peers, kernels, and pods that talk to this node's pods."""

    def __init__(self, host: Host) -> None:
        lab = host.lab
        self._messages = Messages({name: bird.mrt for name, bird in lab.fabric.birds.items()})
        self._events = RouteEvents(lab.network, [node.inside for node in lab.nodes.values()], lab.folder)
        self._traffic = proofs.traffic_between(lab, proofs.crossing(lab, host.node))

    def __enter__(self) -> Self:
        self._events.__enter__()
        self._traffic.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._traffic.__exit__(kind, error, trace)
        self._events.__exit__(kind, error, trace)

    def finish(self) -> list[Count]:
        """A second more of traffic; what became of each stream."""
        self._traffic.run_for(1.0)
        return self._traffic.finish()

    def nobody_noticed(self) -> None:
        """No packet lost, no UPDATE at a peer, no kernel route written on any node."""
        counts = self.finish()
        assert [count for count in counts if count.lost] == []
        assert min(count.sent for count in counts) > 200
        assert self._events.seen() == []
        assert not self._messages.updates()

"""node-a of the lab as a real host: booted by systemd, and installed by the words of the how-to pages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from lab.netns import wait_for
from lab.topology import Lab, Missing
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


class Host:
    """The machine of a lab's node, with the program at hand that ``make install`` would fetch from the network."""

    def __init__(self, lab: Lab, machine: Machine) -> None:
        self.lab = lab
        self.machine = machine
        self.node = lab.nodes["node-a"]

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

    def converge(self, timeout: float = 60.0) -> None:
        """Wait until the whole lab is as it shall be; on failure with the services' last words."""
        try:
            self.lab.wait(timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.machine.ask('journalctl -n 60 --no-pager -o cat').stdout}") from error

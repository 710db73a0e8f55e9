"""From a file and an environment to a config, or to an error that says everything that is wrong."""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from bgp_agent.config import checks
from bgp_agent.config.environment import Overrides, apply, overrides
from bgp_agent.config.model import Config
from bgp_agent.config.problems import ConfigError, Problem, UnreadableError, located, problems_of
from bgp_agent.config.yaml12 import Document, YamlError, read

MAX_BYTES: Final = 1024 * 1024
"""Bytes of a config file; 1,000 peers need a fifth of that."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A config that may be used. ``ignored``: variables that mean nothing; ``warnings``: lines with file and key."""

    config: Config
    path: Path
    ignored: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files whose change means "load again": the config and the password files."""
        secrets = {Path(p.password_file) for p in self.config.bgp.peers if p.password_file}
        return self.path, *sorted(secrets)


def load(path: str | Path, environ: Mapping[str, str], *, host_name: Callable[[], str] = socket.gethostname) -> Loaded:
    """Read the config file and put the environment's overrides above it. Raises :class:`ConfigError`.

    Relative paths in it count from the folder of the file. ``node.name`` is filled in; ``node.address`` is left None
    when it is not set, because it depends on routes that may not stand yet (:func:`source_address`).
    """
    place = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow the symlinks that are being watched
    return parse(read_file(place), place, environ, host_name=host_name)


def read_file(path: Path) -> str:
    """The text of the config file. Raises :class:`ConfigError`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not block us
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ConfigError(str(path), [f"{path}: is not a file: name a YAML file with -c"])
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor has no Path
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(
            str(path), [f"{path}: is not there: write one with `bgp-agent init`, or name it with -c"]
        ) from None
    except OSError as error:
        why = error.strerror or str(error)
        raise UnreadableError(str(path), [f"{path}: cannot be read: {why}: check its owner and mode"]) from None
    if len(data) > MAX_BYTES:
        raise ConfigError(str(path), [f"{path}: is longer than {MAX_BYTES} bytes: this is no config of bgp-agent"])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(str(path), [f"{path}:{line}: is not UTF-8: save it as UTF-8"]) from None


def parse(
    text: str, path: Path, environ: Mapping[str, str], *, host_name: Callable[[], str] = socket.gethostname
) -> Loaded:
    """:func:`load` for a text that was read already; ``path`` is named in errors. Touches no file."""
    source = str(path)
    try:
        document = read(text)
    except YamlError as error:
        raise ConfigError(source, [located(source, error.mark, error.reason)]) from None
    if document.value is None:
        raise ConfigError(source, [f"{source}: is empty: write one with `bgp-agent init`"])
    if not isinstance(document.value, dict):
        raise ConfigError(source, [f"{source}: must be a mapping of keys to values, such as `bgp: {{asn: 64512}}`"])
    found = overrides(environ)
    merged = Document(apply(document.value, found), document.marks)
    try:
        config = Config.model_validate(merged.value)
    except ValidationError as error:
        raise _refused(source, merged, found, [*found.problems, *problems_of(error, merged)]) from None
    if problems := [*found.problems, *checks.errors(config)]:
        raise _refused(source, merged, found, problems)
    config = _completed(config, path.parent, environ, host_name)
    warnings = (_line(source, merged, found, warning) for warning in checks.warnings(config, merged.value))
    return Loaded(config, path, found.ignored, tuple(warnings))


def source_address(peer: str) -> str:
    """The address the kernel would send from to reach ``peer``. Sends nothing. Raises ``OSError`` without a route."""
    family = socket.AF_INET6 if ":" in peer else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        probe.connect((peer, 179))
        return str(probe.getsockname()[0])


def with_address(config: Config, resolve: Callable[[str], str] = source_address) -> Config:
    """The config with ``node.address`` and ``bgp.router_id`` filled in. Raises ``OSError`` without a route to a peer.

    A session over IPv6 alone has no IPv4 address to take the router ID from: it stays None then. Without any peer
    there is nothing to look for.
    """
    address = config.node.address or (resolve(config.bgp.peers[0].address) if config.bgp.peers else None)
    router_id = config.bgp.router_id or (address if address and ":" not in address else None)
    node = config.node.model_copy(update={"address": address})
    bgp = config.bgp.model_copy(update={"router_id": router_id})
    return config.model_copy(update={"node": node, "bgp": bgp})


def _line(source: str, document: Document, found: Overrides, problem: Problem) -> str:
    variable = found.names.get(problem.key[:2]) or found.names.get(problem.key[:1])
    if variable:
        return located(f"environment variable {variable}", None, problem.reason, problem.key)
    return located(source, document.mark(problem.key), problem.reason, problem.key)


def _refused(source: str, document: Document, found: Overrides, problems: list[Problem]) -> ConfigError:
    return ConfigError(source, [_line(source, document, found, problem) for problem in problems])


def _completed(config: Config, folder: Path, environ: Mapping[str, str], host_name: Callable[[], str]) -> Config:
    """Relative paths made absolute, and the node's name."""

    def absolute(path: str) -> str:
        return os.path.normpath(folder / Path(path).expanduser()) if not path.startswith("/") else path

    name = config.node.name or environ.get("NODE_NAME") or host_name()
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?", name):
        raise ConfigError(
            "node.name", [f"node.name: {name[:64]!r} ($NODE_NAME or host name) is no node name: set node.name"]
        )
    peers = tuple(
        peer.model_copy(update={"password_file": absolute(peer.password_file)}) if peer.password_file else peer
        for peer in config.bgp.peers
    )
    kubeconfig = config.kubernetes.kubeconfig
    update = {
        "node": config.node.model_copy(update={"name": name}),
        "blocks": config.blocks.model_copy(update={"path": absolute(config.blocks.path)}),
        "bgp": config.bgp.model_copy(update={"peers": peers}),
        "kubernetes": config.kubernetes.model_copy(update={"kubeconfig": kubeconfig and absolute(kubeconfig)}),
        "state_dir": absolute(config.state_dir),
    }
    return config.model_copy(update=update)

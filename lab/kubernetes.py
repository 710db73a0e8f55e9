"""A real Kubernetes API: etcd and kube-apiserver as processes, with its own authorizer, tokens and audit log.

There is no kubelet and no controller: objects are what a test makes of them. ``make kube`` builds the programs.

::

    with ApiServer(folder, binaries, users=[User("agent", ("bgp-agents",))]) as server:
        server.define(crds(V1))
        server.admin.apply(affinity)
        config = server.kubeconfig("agent")

Each server has a loopback address of its own, or the address of a lab's namespace that it is told to run in, so the
ports are always the usual ones and never anybody's ephemeral port.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lab.kube.build import REMEDY, program
from lab.kube.client import Client, Object
from lab.netns import Namespace, wait_for

PORT: Final = 6443
STORE_PORTS: Final = (2379, 2380)  # clients, peers
ADMIN: Final = "admin"
#: Flags of kube-apiserver that never change: a real authorizer, nothing that waits for controllers which do not run.
FLAGS: Final = (
    "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none",
    "--service-cluster-ip-range=10.96.0.0/16", "--service-account-issuer=https://kubernetes.default.svc",
    "--allow-privileged=true", "--profiling=false",
)  # fmt: skip
#: Every request but the server's own to itself, by its metadata (audit.k8s.io/v1).
AUDIT: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "None", "users": ["system:apiserver", "system:anonymous"]}, {"level": "Metadata"}],
}


@dataclass(frozen=True, slots=True)
class Binaries:
    """The programs. ``helm`` and ``kwok`` may lack where the environment names the others."""

    apiserver: Path
    etcd: Path
    kubectl: Path
    helm: Path | None = None
    kwok: Path | None = None

    @classmethod
    def find(cls) -> Binaries | str:
        """The programs as ``make kube`` built them or the environment names them, else why there are none."""
        found = {name: program(name) for name in ("kube-apiserver", "etcd", "kubectl")}
        apiserver, etcd, kubectl = found.values()
        if apiserver is None or etcd is None or kubectl is None:
            return f"no {' and no '.join(name for name, path in found.items() if path is None)}; {REMEDY}"
        return cls(apiserver, etcd, kubectl, program("helm"), program("kwok"))


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who logs in with a token that never ends. ``groups``: as RBAC's subjects name them."""

    name: str
    groups: tuple[str, ...] = ()


class Daemon:
    """One process that can be ended, killed, frozen and started again. It ends with the thread that started it."""

    def __init__(self, name: str, log: Path, inside: Namespace | None) -> None:
        self.name, self.log = name, log
        self._inside = inside
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *argv: str | Path) -> None:
        """Start it; returns at once."""
        words = self._inside.command(*argv) if self._inside else [str(each) for each in argv]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *words],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def check(self) -> None:
        """Raise RuntimeError with the end of the log when it has ended by itself."""
        if self.process is None or self.process.poll() is not None:
            code = None if self.process is None else self.process.returncode
            raise RuntimeError(f"{self.name} ended ({code}):\n{self.log.read_text(errors='replace')[-3000:]}")

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        if self.process is None:
            raise RuntimeError(f"{self.name} was not started")
        self.process.send_signal(number)

    def freeze(self) -> None:
        """Stop it where it stands (SIGSTOP): connections stay, nothing is answered."""
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        self.send(signal.SIGCONT)

    def end(self, number: signal.Signals = signal.SIGTERM, timeout: float = 30.0) -> None:
        """Send ``number`` and wait until it is gone; one that does not go is killed. Ended already: nothing happens."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.send_signal(signal.SIGCONT)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None


class ApiServer:
    """kube-apiserver and its etcd in ``folder``, started on entering ``with`` and gone after it.

    ``inside`` and ``address``: the namespace to run in and one of its addresses; default: a loopback address of its
    own. ``flags``: more of kube-apiserver's, later ones win.
    """

    def __init__(
        self, folder: Path, binaries: Binaries, *, users: Iterable[User] = (), inside: Namespace | None = None,
        address: str | None = None, port: int = PORT, flags: Iterable[str] = (),
    ) -> None:  # fmt: skip
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder, self.binaries, self.inside, self.port = folder, binaries, inside, port
        self.address = address or loopback()
        self.url = f"https://{self.address}:{port}"
        #: The certificate to check the server by.
        self.authority = folder / "certificates" / "apiserver.crt"
        self.audit_log = folder / "audit.log"
        self.etcd = Daemon("etcd", folder / "etcd.log", inside)
        self.apiserver = Daemon("kube-apiserver", folder / "kube-apiserver.log", inside)
        self._flags = tuple(flags)
        self._tokens = {user.name: secrets.token_hex(16) for user in (User(ADMIN), *users)}
        self._users = {user.name: user for user in (User(ADMIN, ("system:masters",)), *users)}
        self._admin: Client | None = None
        self._clients: list[Client] = []
        self._furnish()

    def _furnish(self) -> None:
        tokens = (f'{self._tokens[u.name]},{u.name},{u.name},"{",".join(u.groups)}"' for u in self._users.values())
        _private(self.folder / "tokens.csv", "\n".join(tokens) + "\n")
        _private(self.folder / "audit.yaml", yaml.safe_dump(AUDIT))
        _private(self.folder / "service-accounts.key", _signing_key())

    # --- the processes -----------------------------------------------------------------------------------------------
    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def start(self, timeout: float = 30.0) -> None:
        """Start what does not run, on the data of before, and wait until it is ready."""
        if self.etcd.process is None:
            self.start_etcd()
        if self.apiserver.process is None:
            self._start_apiserver()
        wait_for("the Kubernetes API is ready", self.ready, timeout)

    def start_etcd(self) -> None:
        """Start etcd alone, after ``etcd.end()``; returns at once."""
        clients, peers = (f"http://{self.address}:{port}" for port in STORE_PORTS)
        self._wait_for_ports(*STORE_PORTS)
        self.etcd.start(
            self.binaries.etcd, "--data-dir", self.folder / "etcd", "--listen-client-urls", clients,
            "--advertise-client-urls", clients, "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers,
            "--initial-cluster", f"default={peers}", "--auto-compaction-mode=periodic",
        )  # fmt: skip

    def _start_apiserver(self) -> None:
        self._wait_for_ports(self.port)
        key = self.folder / "service-accounts.key"
        self.apiserver.start(
            self.binaries.apiserver, f"--etcd-servers=http://{self.address}:{STORE_PORTS[0]}",
            f"--bind-address={self.address}", f"--advertise-address={self.address}", f"--secure-port={self.port}",
            f"--cert-dir={self.authority.parent}", f"--token-auth-file={self.folder / 'tokens.csv'}",
            f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}",
            f"--audit-policy-file={self.folder / 'audit.yaml'}", f"--audit-log-path={self.audit_log}",
            "--audit-log-mode=blocking", *FLAGS, *self._flags,
        )  # fmt: skip

    def ready(self) -> bool:
        """Does ``/readyz`` say yes. Raises RuntimeError when one of the two has ended."""
        self.etcd.check()
        self.apiserver.check()
        try:
            return self.admin.request("GET", "/readyz", timeout=2)[0] == 200
        except OSError:  # no certificate yet, nobody listens, or not in time
            return False

    def stop(self) -> None:
        """End kube-apiserver as Kubernetes does (SIGTERM); etcd stays. Everybody's watches end."""
        self.apiserver.end()

    def kill(self) -> None:
        """End kube-apiserver at once (SIGKILL); etcd stays."""
        self.apiserver.end(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP to kube-apiserver: connections stay, nothing is answered."""
        self.apiserver.freeze()

    def thaw(self) -> None:
        """Let a frozen kube-apiserver go on."""
        self.apiserver.thaw()

    def close(self) -> None:
        """End both; their data stays in the folder."""
        self.apiserver.end(signal.SIGKILL)
        self.etcd.end(signal.SIGKILL)
        for client in self._clients:
            client.close()

    def _wait_for_ports(self, *ports: int) -> None:
        for port in ports:
            wait_for(f"{self.address} port {port} is free", lambda port=port: self._free(port), 30)  # type: ignore[misc]  # a lambda's default

    def _free(self, port: int) -> bool:
        with self.inside.entered() if self.inside else contextlib.nullcontext():
            return _can_bind(self.address, port)

    # --- whoever logs in ---------------------------------------------------------------------------------------------
    @property
    def admin(self) -> Client:
        """A client with every right."""
        if self._admin is None:
            self._admin = self.client(ADMIN)
        return self._admin

    def client(self, user: str = ADMIN, *, token: str | None = None) -> Client:
        """A new client, as a user or with any token (empty: anonymous); it ends with the server."""
        login = self._tokens[user] if token is None else token
        made = Client(self.address, self.port, self.authority, login, self.inside)
        self._clients.append(made)
        return made

    def token(self, user: str = ADMIN) -> str:
        """A user's token."""
        return self._tokens[user]

    def kubeconfig(self, user: str = ADMIN, path: Path | None = None, *, token: str | None = None) -> Path:
        """Write a kubeconfig for a user, or with any token; its path, default ``USER.kubeconfig`` in the folder."""
        path = path or self.folder / f"{user}.kubeconfig"
        login = {"token": self._tokens[user] if token is None else token}
        named = {"cluster": "lab", "user": user}
        cluster = {"server": self.url, "certificate-authority": str(self.authority)}
        document = {
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": cluster}], "users": [{"name": user, "user": login}],
            "contexts": [{"name": "lab", "context": named}],
        }  # fmt: skip
        _private(path, yaml.safe_dump(document))
        return path

    def service_account(self, name: str, namespace: str = "default") -> None:
        """Make a ServiceAccount. Again: tokens of the one before are worth nothing, after 10 s if used just before."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}"
        if self.admin.find(path):
            self.admin.delete(path)
        if not self.admin.find(f"/api/v1/namespaces/{namespace}"):
            self.admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        metadata = {"name": name, "namespace": namespace}
        self.admin.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})

    def service_account_token(self, name: str, namespace: str = "default", seconds: int = 600) -> str:
        """A new token of a ServiceAccount (TokenRequest); 600 s is the least that Kubernetes gives."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        asked = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        status, answer = self.admin.request("POST", path, asked)
        if status != 201:
            raise AssertionError(f"{path}: {status} {answer}")
        return str(answer["status"]["token"])

    def mount_service_account(self, folder: Path, name: str, namespace: str = "default") -> None:
        """Write ``token``, ``ca.crt`` and ``namespace`` as a kubelet does, with a new token each time."""
        folder.mkdir(parents=True, exist_ok=True)
        _private(folder / "ca.crt", self.authority.read_text())
        _private(folder / "namespace", namespace)
        _private(folder / "token", self.service_account_token(name, namespace))

    def pod_environment(self) -> dict[str, str]:
        """The variables that tell a pod where the API is."""
        return {"KUBERNETES_SERVICE_HOST": self.address, "KUBERNETES_SERVICE_PORT": str(self.port)}

    # --- objects and evidence ----------------------------------------------------------------------------------------
    def define(self, definitions: Iterable[Object]) -> None:
        """Create CustomResourceDefinitions and wait until their objects can be listed."""
        self.admin.define(definitions)

    def grant(self, user: str, rules: Iterable[Mapping[str, object]]) -> None:
        """Give a user the rules of a ClusterRole made for it alone, instead of the ones before."""
        api, metadata = "rbac.authorization.k8s.io/v1", {"name": f"lab:{user}"}
        reference = {"apiGroup": "rbac.authorization.k8s.io"}
        self.admin.apply(
            {"apiVersion": api, "kind": "ClusterRole", "metadata": metadata, "rules": list(rules)},
            {"apiVersion": api, "kind": "ClusterRoleBinding", "metadata": metadata,
             "roleRef": {**reference, "kind": "ClusterRole", **metadata},
             "subjects": [{**reference, "kind": "User", "name": user}]},
        )  # fmt: skip

    def requests(self, user: str) -> Iterator[Any]:
        """What a user asked (audit log): ``verb``, ``requestURI``, ``responseStatus``, ``stage``, ``userAgent``."""
        with contextlib.suppress(FileNotFoundError):
            for line in self.audit_log.read_text().splitlines():
                entry = json.loads(line)
                if entry["user"].get("username") == user:
                    yield entry

    def kubectl(self, *words: str, user: str = ADMIN, stdin: str | None = None) -> str:
        """What ``kubectl WORDS`` prints; raises CalledProcessError with its error text."""
        argv = [str(self.binaries.kubectl), f"--kubeconfig={self.kubeconfig(user)}", *words]
        done = subprocess.run(
            self.inside.command(*argv) if self.inside else argv, input=stdin, capture_output=True, text=True,
            timeout=60, check=False, env={**os.environ, "HOME": str(self.folder)},
        )  # fmt: skip
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, argv, done.stdout, done.stderr)
        return done.stdout


def loopback() -> str:
    """An address of 127.0.0.0/8 on which nobody listens at the ports used here."""
    while True:
        address = ".".join(["127", *(str(1 + secrets.randbelow(254)) for _ in range(3))])
        if all(_can_bind(address, port) for port in (PORT, *STORE_PORTS)):
            return address


def _can_bind(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Go listens: TIME_WAIT does not count
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True


def _private(path: Path, text: str) -> None:
    """Write a file that only its owner reads, by an atomic rename."""
    new = path.with_name(f".{path.name}.new")
    new.touch(mode=0o600)
    new.write_text(text)
    new.replace(path)


def _signing_key() -> str:
    """A private key for ServiceAccount tokens, as PEM (P-256: made in a millisecond, where RSA takes a second)."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode()

"""A twin that the real clients can talk to."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.azure.twin.lab.cloud import Cloud

CONFIG = """
timing: fast
fabric: {mode: none}
listen:
- 169.254.169.254:80
- {address: '127.0.0.1:8443', certificate: CERT, key: KEY}
vms: [{name: vm-a, nic: nic-a}]
identities:
- name: agent
  client_id: 00000000-0000-0000-0000-0000000000c1
  object_id: 00000000-0000-0000-0000-0000000000d1
  federated: [{issuer: 'https://issuer.test/', subject: 'system:serviceaccount:kube-system:agent'}]
resource_group: seeded
"""


@pytest.fixture
def https_cloud(clients: Path, tmp_path: Path) -> Iterator[Cloud]:
    """IMDS at its real address, ARM with HTTPS."""
    assert clients.is_dir()
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", key, "-out", certificate, "-subj", "/CN=twin", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run(["ip", "address", "replace", "169.254.169.254/32", "dev", "lo"], check=True)
    made = Cloud(tmp_path, CONFIG.replace("CERT", str(certificate)).replace("KEY", str(key)))
    yield made
    made.close()
    subprocess.run(["ip", "address", "delete", "169.254.169.254/32", "dev", "lo"], check=False)

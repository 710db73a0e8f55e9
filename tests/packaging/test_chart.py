"""The Helm chart: accepted by a real API server, strict about what it is given, and as confined as it says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.kube import chart
from lab.kubernetes import ApiServer, Binaries

pytestmark = pytest.mark.timeout(120)

PEER = {"address": "10.42.0.4", "asn": 65515}
VALUES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "peers with passwords": {
        "config": {"bgp": {"peers": [PEER | {"password_file": "/etc/bgp-agent-passwords/rs"}]}},
        "passwordsSecret": "bgp-passwords",
    },
    "metrics": {"metrics": {"port": 9180}},
    "workload identity": {
        "workloadIdentity": True,
        "serviceAccount": {"annotations": {"azure.workload.identity/client-id": "an-id"}},
    },
    "another image of the speaker": {"speaker": {"image": {"tag": "0.0.9"}, "stopTimeout": 20}},
}


@pytest.fixture(scope="module")
def binaries() -> Binaries:
    found = Binaries.find()
    if isinstance(found, str):
        pytest.skip(found)
    if found.helm is None:
        pytest.skip("no helm: `make kube` builds one")
    return found


@pytest.fixture(scope="module")
def helm(binaries: Binaries) -> Path:
    assert binaries.helm is not None
    return binaries.helm


@pytest.fixture(scope="module")
def server(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with ApiServer(tmp_path_factory.mktemp("api"), binaries) as running:
        yield running


def pods(text: str) -> dict[str, dict[str, Any]]:
    """Each DaemonSet's pod, by its component."""
    sets = [each for each in chart.objects(text) if each["kind"] == "DaemonSet"]
    return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"]["template"] for each in sets}


def test_helm_finds_nothing_to_complain_of(helm: Path) -> None:
    assert "0 chart(s) failed" in chart.helm(helm, "lint", "--strict", chart.CHART)


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())
def test_a_real_api_server_takes_it(helm: Path, server: ApiServer, values: dict[str, Any]) -> None:
    said = server.kubectl("apply", "--dry-run=server", "-f", "-", stdin=chart.render(helm, values))
    assert "daemonset.apps/bgp-agent created (server dry run)" in said
    assert "daemonset.apps/bgp-agent-speaker created (server dry run)" in said


@pytest.mark.parametrize("words", ["podMonitor", "serviceMonitor"])
def test_monitors_are_there_when_asked_for(helm: Path, words: str) -> None:
    def kinds(port: int) -> set[str]:
        text = chart.render(helm, {"metrics": {"port": port, words: {"enabled": True}}})
        return {each["kind"] for each in chart.objects(text)}

    kind = words[0].upper() + words[1:]
    assert kind in kinds(9180)
    assert kind not in kinds(0)


@pytest.mark.parametrize(
    "values",
    [
        {"image": {"tagg": "1"}},
        {"agents": {}},
        {"speaker": {"stopTimeout": "150s"}},
        {"config": {"state_dir": "/var/lib/x"}},
        {"config": {"speaker": {"spawn": True}}},
        {"config": {"node": {"name": "the same for all"}}},
        {"config": {"http": {"listen": "0.0.0.0:9179"}}},
        {"config": {"blocks": {"source": "calicoo"}}},
        {"metrics": {"port": 70000}},
    ],
    ids=str,
)
def test_a_slip_of_the_pen_is_refused_before_it_is_deployed(helm: Path, values: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="schema"):
        chart.render(helm, values)


def test_each_container_has_one_capability_and_nothing_to_write_but_its_folders(helm: Path) -> None:
    for component, capability in (("agent", "NET_ADMIN"), ("speaker", "NET_BIND_SERVICE")):
        pod = pods(chart.render(helm))[component]["spec"]
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": [capability]},
        }
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert (pod["hostNetwork"], pod["enableServiceLinks"]) == (True, False)
        assert pod["automountServiceAccountToken"] is (component == "agent")
        assert "cpu" not in container["resources"]["limits"], "throttled is late"


def test_a_new_agent_leaves_the_speaker_as_it_is(helm: Path) -> None:
    before, after = (pods(chart.render(helm, values)) for values in ({}, {"config": {"log": {"level": "debug"}}}))
    assert before["agent"] != after["agent"]
    assert before["speaker"] == after["speaker"]
    upgraded = {"image": {"tag": "9.9.9"}, "speaker": {"image": {"tag": "0.1.0"}}}
    assert pods(chart.render(helm, upgraded))["speaker"] == before["speaker"]


def test_both_pods_share_the_folder_of_the_sockets(helm: Path) -> None:
    for pod in pods(chart.render(helm)).values():
        state = next(each for each in pod["spec"]["volumes"] if each["name"] == "state")
        assert state["hostPath"] == {"path": "/run/bgp-agent", "type": "DirectoryOrCreate"}
        (container,) = pod["spec"]["containers"]
        assert {"name": "state", "mountPath": "/run/bgp-agent"} in container["volumeMounts"]


@pytest.mark.parametrize(
    "values",
    [
        {"config": {"bgp": {"peers": [PEER]}}},
        {"config": {"azure": {}}},
        {"config": {"azure": {}}, "metrics": {"port": 9180}},
    ],
    ids=["peers", "azure", "metrics"],
)
def test_the_agent_takes_the_configuration_it_is_given(helm: Path, values: dict[str, Any], tmp_path: Path) -> None:
    given = next(each for each in chart.objects(chart.render(helm, values)) if each["kind"] == "ConfigMap")
    path = tmp_path / "config.yaml"
    path.write_text(given["data"]["config.yaml"])
    check = [sys.executable, "-m", "bgp_agent", "check", "-c", str(path)]
    done = subprocess.run(check, capture_output=True, text=True, timeout=30, check=False)
    assert not done.returncode, done.stdout + done.stderr


def test_the_plain_manifests_are_the_charts(helm: Path) -> None:
    assert chart.MANIFESTS.read_text() == chart.manifests(helm), "`make manifests` writes them anew"

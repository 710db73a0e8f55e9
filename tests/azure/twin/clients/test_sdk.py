"""The Azure SDK for Python: CRUD with ETags, long-running operations, 404, 409, 412, 429 and a Failed object."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.azure.twin.lab.cloud import Cloud

pytestmark = [pytest.mark.netns, pytest.mark.xdist_group("azure-cli"), pytest.mark.timeout(180)]

FAULTS = (
    {"kind": "slow", "method": "PUT", "path": "*/routes/r1", "seconds": 1.5},
    {"kind": "answer", "method": "PUT", "path": "*/routes/r1", "status": 409},
    {"kind": "fail", "method": "PUT", "path": "*/routes/r1", "code": "InternalServerError"},
    {"kind": "answer", "method": "GET", "path": "*/routes/r1", "status": 503, "retry_after": 0},
)


def test_the_sdk_sees_what_azure_would_show_it(https_cloud: Cloud, clients: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [clients / "bin" / "python", Path(__file__).with_name("sdk_story.py"), tmp_path / "cert.pem", tmp_path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stdin
        assert process.stderr
        line = process.stdout.readline()
        assert line.strip() == '"slow"', line + process.stderr.read()[-3000:]
        for each in FAULTS:
            https_cloud.twin("POST", "faults", each)
        process.stdin.write("go\n")
        process.stdin.flush()
        line = process.stdout.readline()
        assert line, process.stderr.read()[-3000:]
    seen = json.loads(line)
    assert seen["workload"] is True
    assert seen["made"] == ["r1", "Succeeded", "10.42.1.4"]
    assert seen["412"] == ["HttpResponseError", 412, "PreconditionFailed"]
    assert seen["conflict"] == ["HttpResponseError", 400, "RouteConflict"]
    assert seen["404"] == ["ResourceNotFoundError", 404, "NotFound"]
    assert seen["early"][2] == "HubBgpConnectionParentHubMustHaveProvisionedRoutingState"
    assert seen["hub"] == [65515, ["10.42.0.4", "10.42.0.5"], "Provisioned"]
    assert seen["peer"] == ["10.42.1.4", 64512, "Succeeded"]
    assert seen["learned"] == ["RouteServiceRole_IN_0", "RouteServiceRole_IN_1"]
    assert "RoutesPerRouteTable" in seen["usages"]
    assert seen["429"] == ["HttpResponseError", 429, "RetryableError"]
    assert seen["lro_waited"] is True
    assert seen["409"] == ["ResourceExistsError", 409, "AnotherOperationInProgress"]
    assert seen["failed"][0] == "HttpResponseError"
    assert seen["state"] == "Failed"
    assert seen["left"] == []

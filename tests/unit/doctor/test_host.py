"""Masquerading, source addresses and networkd: what rules and files mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgp_agent.core.prefix import parse_prefix
from bgp_agent.doctor.findings import Verdict
from bgp_agent.doctor.host import judge_masquerade, judge_networkd, networkd_files

POOL = parse_prefix("192.168.0.0/16")
OK, WARN = Verdict.OK, Verdict.WARN
CALICO = (
    "-A cali-nat-outgoing -m set --match-set cali40masq-ipam-pools src "
    "-m set ! --match-set cali40all-ipam-pools dst -j MASQUERADE --random-fully"
)


@pytest.mark.parametrize(
    ("saved", "listed", "verdict"),
    [
        ("", "", WARN),  # no Internet for pods
        (CALICO, "", OK),
        ("-A POSTROUTING -s 192.168.0.0/16 ! -d 192.168.0.0/16 -j MASQUERADE", "", OK),
        ("-A POSTROUTING -s 192.168.0.0/16 -j MASQUERADE", "", WARN),  # pods see the node's address
        ("-A POSTROUTING -o eth0 -j MASQUERADE", "", WARN),
        ("-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE", "", WARN),  # another range: as if none
        ("-A POSTROUTING ! -s 192.168.0.0/16 -j MASQUERADE", "", WARN),
        ("-A MASQ -d 192.168.0.0/16 -j RETURN\n-A MASQ -m addrtype ! --dst-type LOCAL -j MASQUERADE", "", OK),
        ("-A KUBE-POSTROUTING -j MASQUERADE --random-fully", "", WARN),
        ("", "  ip saddr 192.168.0.0/16 ip daddr != 192.168.0.0/16 masquerade", OK),
        ("", '  oifname "eth0" masquerade', WARN),
        ("", "# Warning: table ip nat is managed by iptables-nft\ntable ip nat {\n masquerade\n}\n", WARN),
    ],
)  # fmt: skip
def test_pods_that_are_masqueraded_everywhere_or_nowhere(saved: str, listed: str, verdict: Verdict) -> None:
    found = judge_masquerade(POOL, saved, listed, cloud=True)
    assert found.verdict is verdict
    assert found.remedy or verdict is OK


def test_which_of_both_is_said() -> None:
    assert "no Internet" in judge_masquerade(POOL, "", "", cloud=True).seen
    assert judge_masquerade(POOL, "", "", cloud=False).verdict is OK
    assert "other pods" in judge_masquerade(POOL, "-A POSTROUTING -o eth0 -j MASQUERADE", "", cloud=True).seen


def test_networkd_that_takes_out_foreign_routes() -> None:
    found = judge_networkd(["[Network]\n#ManageForeignRoutes=no\n"])
    assert found.verdict is WARN
    assert "ManageForeignRoutes=no\\nManageForeignRoutingPolicyRules=no" in found.remedy
    both = "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules = false\n"
    assert judge_networkd([both]).verdict is OK
    assert judge_networkd([both, "[Network]\nManageForeignRoutes=yes\n"]).verdict is WARN


def test_a_drop_in_of_etc_hides_one_of_the_vendor(tmp_path: Path) -> None:
    for folder, text in (("usr/lib", "vendor"), ("etc", "admin")):
        path = tmp_path / folder / "systemd/networkd.conf.d"
        path.mkdir(parents=True)
        (path / "a.conf").write_text(text)
    (tmp_path / "etc/systemd/networkd.conf").write_text("main")
    assert networkd_files(tmp_path) == ["main", "admin"]

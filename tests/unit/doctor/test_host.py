"""Masquerading, source addresses and networkd: what rules and files mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgp_agent.core.prefix import parse_prefix
from bgp_agent.doctor.findings import Verdict
from bgp_agent.doctor.host import judge_masquerade, judge_networkd, networkd_files

POOL = parse_prefix("192.168.0.0/16")
OK, WARN = Verdict.OK, Verdict.WARN
GOOD, EVERYWHERE, NOWHERE = "and not towards pods", "towards other pods", "pods have no Internet"
CALICO = (
    "-A cali-nat-outgoing -m set --match-set cali40masq-ipam-pools src "
    "-m set ! --match-set cali40all-ipam-pools dst -j MASQUERADE --random-fully"
)


@pytest.mark.parametrize(
    ("saved", "listed", "words"),
    [
        ("", "", NOWHERE),  # no Internet for pods
        (CALICO, "", GOOD),
        ("-A POSTROUTING -s 192.168.0.0/16 ! -d 192.168.0.0/16 -j MASQUERADE", "", GOOD),
        ("-A POSTROUTING -s 192.168.0.0/16 -j MASQUERADE", "", EVERYWHERE),  # pods see the node's address
        ("-A POSTROUTING -o eth0 -j MASQUERADE", "", EVERYWHERE),
        ("-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE", "", NOWHERE),  # another range: as if none
        ("-A POSTROUTING ! -s 192.168.0.0/16 -j MASQUERADE", "", NOWHERE),
        ("-A MASQ -d 192.168.0.0/16 -j RETURN\n-A MASQ -m addrtype ! --dst-type LOCAL -j MASQUERADE", "", GOOD),
        ("-A KUBE-POSTROUTING -j MASQUERADE --random-fully", "", NOWHERE),
        ("", "  ip saddr 192.168.0.0/16 ip daddr != 192.168.0.0/16 masquerade", GOOD),
        ("", '  oifname "eth0" masquerade', EVERYWHERE),
        ("", "# Warning: table ip nat is managed by iptables-nft\ntable ip nat {\n masquerade\n}\n", NOWHERE),
    ],
)  # fmt: skip
def test_pods_that_are_masqueraded_everywhere_or_nowhere(saved: str, listed: str, words: str) -> None:
    found = judge_masquerade(POOL, saved, listed, cloud=True)
    assert words in found.seen
    assert found.verdict is (OK if words == GOOD else WARN)
    assert found.remedy or words == GOOD


def test_outside_a_cloud_somebody_else_may_translate() -> None:
    assert judge_masquerade(POOL, "", "", cloud=False).verdict is OK


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

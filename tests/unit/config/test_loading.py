"""Files and environments as users write them, and what they are told when something is wrong."""

# ruff: noqa: E501 - one case a line
from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.config import Config, ConfigError, Loaded, effective, load, parse, source_address, with_address
from bgp_agent.config.loading import MAX_BYTES

PATH = Path("/etc/bgp-agent/config.yaml")
GOOD = """\
pools: [192.168.0.0/16]
bgp:
  asn: 64512
  peers:
  - {address: 10.42.0.4, asn: 65515}
  - {address: 10.42.0.5, asn: 65515}
"""


def parsed(text: str, **environ: str) -> Loaded:
    return parse(text, PATH, environ, host_name=lambda: "host-a")


def refused(text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parsed(text, **environ)
    return str(caught.value)


def test_the_smallest_config_has_every_documented_default() -> None:
    config = parsed(GOOD).config
    assert yaml.safe_load(effective(config)) == yaml.safe_load("""
        node: {name: host-a, address: null, address6: null}
        pools: [192.168.0.0/16]
        blocks: {source: file, path: /etc/bgp-agent/blocks.yaml}
        bgp:
          asn: 64512
          router_id: null
          graceful_restart: 120s
          graceful_shutdown: 2s
          stale_time: 120s
          hold_time: 30s
          allow_own_as: 1
          peers:
          - &peer {address: 10.42.0.4, asn: 65515, port: 179, multihop: 8, ttl_security: null, passive: false, password_file: null,
             families: [ipv4], max_prefixes: 4000, warn_prefixes: null, announce_limit: null,
             med: null, communities: [], prepend: 0}
          - {<<: *peer, address: 10.42.0.5}
        import: {refuse: []}
        speaker: {spawn: true, user: null, stop_timeout: 150s}
        kernel: {table: 254, protocol: 179, metric: 4096, install: true, blackhole: true, max_paths: 8}
        fallback: {mode: 'off', min_peers: 1, after: 10s, revert_after: 60s}
        probe: {mode: auto, port: 61179}
        kubernetes: {kubeconfig: null, context: null, owners: true}
        http: {listen: 127.0.0.1:9179, metrics_listen: null}
        state_dir: /run/bgp-agent
        log: {level: info, format: console}
    """)


def test_with_a_cloud_the_fallback_stands_by_and_wants_all_peers() -> None:
    config = parsed("azure: {}\n").config
    assert (config.fallback.mode, config.fallback.min_peers) == ("standby", "all")
    assert config.azure is not None
    assert (config.azure.settle, config.azure.allow_http) == (30.0, False)


def test_the_other_sources_need_no_file_and_the_nodes_needs_pools() -> None:
    given = parsed("bgp: {asn: 64512, peers: [{address: 10.42.0.4, asn: 65515}]}\nblocks: {source: calico}\n")
    assert given.config.pools == ()
    with pytest.raises(ConfigError, match="Kubernetes does not tell the pods' range"):
        parsed("azure: {}\nblocks: {source: node}\n")


def test_yaml_1_1_surprises_mean_what_they_look_like() -> None:
    config = parsed(
        "pools: [fd00:10::/32]\nprobe: {mode: off}\nnode: {address: fd00::1, name: n1}\n"
        "bgp: {asn: 0xFC00, router_id: 1.2.3.4, peers: [{address: fd00::4, asn: 65515, communities: [64512:10, no-export]}]}\n"
    ).config
    assert config.probe.mode == "off"
    assert config.bgp.asn == 64512
    assert config.bgp.peers[0].communities == ("64512:10", "no-export")
    assert config.bgp.peers[0].families == ("ipv6",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", f"{PATH}: is empty: write one with `bgp-agent init`"),
        ("# nothing\n", f"{PATH}: is empty"),
        ("- a", "must be a mapping"),
        ("bgp: {", f"{PATH}:2:1: did not find expected"),
        (GOOD + "pool: []\n", f"{PATH}:7:1: pool: unknown key; did you mean pools?"),
        (GOOD + "imports: {}\n", "imports: unknown key; did you mean import?"),
        (GOOD + "xyzzy: 1\n", "xyzzy: unknown key; there are node, pools, blocks"),
        (GOOD + "kernel: {metrics: 1}\n", f"{PATH}:7:10: kernel.metrics: unknown key; did you mean metric?"),
        (GOOD.replace("{address: 10.42.0.5,", "{adress: 10.42.0.5,"), f"{PATH}:6:6: bgp.peers[1].adress: unknown key; did you mean address?"),
        (GOOD.replace("{address: 10.42.0.5,", "{"), f"{PATH}:6:5: bgp.peers[1].address: is required"),
        (GOOD.replace("asn: 64512", "asn: '64512'"), f"{PATH}:3:3: bgp.asn: '64512' is no AS number"),
        (GOOD.replace("asn: 64512", "asn: 64512:10"), "'64512:10' is no AS number"),
        (GOOD.replace("asn: 64512", "hold_time: 30s"), "bgp.asn: is required: the own AS number"),
        (GOOD + "bgp: {}\n", f"{PATH}:7:1: the key 'bgp' stands here twice, first in line 2"),
        ("bgp: {asn: 1}", "bgp.peers: at least one peer is required"),
        (GOOD.replace("pools: [192.168.0.0/16]", "pools: []"), "pools: is required with blocks.source: file"),
        (GOOD + "log: {level: loud}\n", "log.level: must be debug, info, warning or error"),
        (GOOD + "log:\n", "log: must be a mapping of keys to values, but nothing stands here"),
        (GOOD + "kernel: {table: 0}\n", "kernel.table: must be at least 1"),
        (GOOD + "kernel: {table: 255}\n", "kernel.table: 255 is the kernel's own table"),
        (GOOD + "kernel: {table: '254'}\n", "kernel.table: must be a whole number"),
        (GOOD + "kernel: {protocol: 2}\n", "kernel.protocol: must be at least 5"),
        (GOOD + "kernel: {protocol: 256}\n", "kernel.protocol: must be at most 255"),
        (GOOD + "kernel: {metric: 0}\n", "kernel.metric: must be at least 1"),
        (GOOD + "kernel: {install: yes}\n", "kernel.install: must be true or false"),
        (GOOD + "kernel: {install: 1}\n", "kernel.install: must be true or false"),
        (GOOD + "speaker: {user: 'a b'}\n", "speaker.user: has characters that cannot stand here"),
        (GOOD + "speaker: {user: 12}\n", "speaker.user: must be text"),
        (GOOD + "http: {listen: 9179}\n", "http.listen: 9179 is no end point"),
        (GOOD + "http: {metrics_listen: 127.0.0.1:9179}\n", "http.metrics_listen: is the same as http.listen"),
        (GOOD + "import: {refuse: [10.0.0.1/8]}\n", "import.refuse[0]: '10.0.0.1/8' has host bits set; the prefix is 10.0.0.0/8"),
        (GOOD + "import: {refuse: 10.0.0.0/8}\n", "import.refuse: must be a list"),
        (GOOD + "fallback: {min_peers: 3}\n", "fallback.min_peers: 3 peers are wanted, but bgp.peers has 2"),
        (GOOD + "fallback: {min_peers: 0}\n", "fallback.min_peers: write all, or a number"),
        (GOOD + "node: {address6: 10.0.0.1}\n", "node.address6: 10.0.0.1 is not an IPv6 address"),
        (GOOD + "node: {address: 224.0.0.1}\n", "node.address: 224.0.0.1 is multicast"),
        (GOOD + "node: {address: 10.42.0.4}\n", "bgp.peers[0].address: 10.42.0.4 is this node's own address"),
        (GOOD + "node: {address: fd00::1}\n", "bgp.router_id: is required when node.address is IPv6"),
        (GOOD + "node: {name: '-a'}\n", "node.name: has characters that cannot stand here"),
        (GOOD.replace("asn: 64512", "asn: 64512\n  router_id: fd00::1"), "bgp.router_id: fd00::1 is not an IPv4 address"),
        (GOOD.replace("asn: 64512", "asn: 64512\n  router_id: 0.0.0.0"), "bgp.router_id: 0.0.0.0 is no BGP identifier"),
        (GOOD.replace("asn: 64512", "asn: 64512\n  hold_time: 2s"), "bgp.hold_time: must be 0 or at least 3s"),
        (GOOD.replace("asn: 64512", "asn: 64512\n  hold_time: 3500ms"), "bgp.hold_time: BGP counts whole seconds"),
        (GOOD.replace("asn: 64512", "asn: 64512\n  hold_time: 30"), "bgp.hold_time: 30 is no duration: write"),
        (GOOD.replace("asn: 64512", "asn: 64512\n  graceful_restart: 4096s"), "bgp.graceful_restart: must be at most 4095"),
        (GOOD.replace("10.42.0.5", "10.42.0.4"), "bgp.peers[1].address: 10.42.0.4 is also peer 0"),
        (GOOD.replace("10.42.0.5", "fe80::1"), "bgp.peers[1].address: fe80::1 is link-local"),
        (GOOD.replace("10.42.0.5", "0.0.0.0"), "bgp.peers[1].address: 0.0.0.0 is the unspecified network"),
        (GOOD.replace("10.42.0.5,", "10.42.0.5, ttl_security: 1, multihop: 2,"), "bgp.peers[1].ttl_security: excludes multihop"),
        (GOOD.replace("10.42.0.5,", "10.42.0.5, families: [],"), "bgp.peers[1].families: must have at least 1 entries"),
        (GOOD.replace("10.42.0.5,", "10.42.0.5, families: [ipv4, ipv4],"), "bgp.peers[1].families: names a family twice"),
        (GOOD.replace("10.42.0.5,", "10.42.0.5, families: [ipv4, vpn],"), "bgp.peers[1].families[1]: must be ipv4 or ipv6"),
        (GOOD.replace("10.42.0.5,", "10.42.0.5, max_prefixes: 5, warn_prefixes: 6,"), "warn_prefixes: must not be above max_prefixes (5)"),
        (GOOD.replace("10.42.0.5,", "10.42.0.5, communities: [65536:1],"), "bgp.peers[1].communities[0]: '65536:1' is no community"),
        (GOOD.replace("10.42.0.5,", "10.42.0.5, prepend: -1,"), "bgp.peers[1].prepend: must be at least 0"),
        (GOOD.replace("10.42.0.5,", "10.42.0.5, port: 0,"), "bgp.peers[1].port: must be at least 1"),
        (GOOD.replace("192.168.0.0/16", "0.0.0.0/0"), "pools[0]: 0.0.0.0/0 is too wide"),
        (GOOD.replace("192.168.0.0/16", "169.254.0.0/16"), "pools[0]: 169.254.0.0/16 is link-local"),
        (GOOD.replace("192.168.0.0/16", "192.168.0.0/16, 192.168.1.0/24"), "pools[1]: 192.168.1.0/24 overlaps another pool"),
        ("azure: {arm_url: http://x}\n", "azure.arm_url: is plain http, and the token would be readable"),
        ("azure: {arm_url: ftp://x}\n", "azure.arm_url: 'ftp://x' is no URL"),
        ("azure: 1\n", "azure: must be a mapping"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place_and_a_remedy(text: str, message: str) -> None:
    assert message in refused(text)


def test_all_that_is_wrong_is_said_at_once_and_in_order() -> None:
    text = GOOD.replace("asn: 64512", "asn: 0") + "kernel: {metric: 0, x: 1}\nlog: {level: x}\n"
    lines = refused(text).splitlines()
    assert [line.split(": ")[1] for line in lines] == ["bgp.asn", "kernel.metric", "kernel.x", "log.level"]


def test_a_peer_with_one_mistake_has_one_problem() -> None:
    lines = refused(
        "pools: [192.168.0.0/16]\nbgp: {asn: 1, peers: [{address: 10.0.0.1, asn: 2, port: 0}]}"
    ).splitlines()
    assert len(lines) == 1
    assert lines[0].endswith("bgp.peers[0].port: must be at least 1")


def test_a_file_with_a_thousand_mistakes_gives_a_readable_message() -> None:
    message = refused("".join(f"key{n}: 1\n" for n in range(1000)))
    assert message.endswith("... and 980 more")


def test_a_secret_under_a_wrong_key_is_not_repeated() -> None:
    message = refused(GOOD.replace("10.42.0.5,", "10.42.0.5, password: hunter2,"))
    assert "bgp.peers[1].password: unknown key; did you mean password_file?" in message
    assert "hunter2" not in message


def test_peers_may_share_an_anchor() -> None:
    config = parsed(GOOD.replace("[192.168.0.0/16]", "&pools [192.168.0.0/16]") + "import: {refuse: *pools}\n").config
    assert config.imports.refuse == config.pools


# --- the environment -------------------------------------------------------------------------------------------------
def test_the_environment_stands_above_the_file() -> None:
    loaded = parsed(
        GOOD,
        BGP_AGENT_BGP__ASN="64999",
        BGP_AGENT_BGP__PEERS="[{address: 10.42.0.9, asn: 65515}]",
        BGP_AGENT_POOLS="[10.0.0.0/16, fd00:10::/32]",
        BGP_AGENT_STATE_DIR="/tmp/state",  # noqa: S108
        BGP_AGENT_IMPORT__REFUSE="[10.0.9.0/24]",
        BGP_AGENT_PROBE__MODE="off",
        BGP_AGENT_NODE__NAME="0123",
        BGP_AGENT_KERNEL__INSTALL="false",
        BGP_AGENT_BGP__HOLD_TIME="9s",
        BGP_AGENT_FALLBACK__MIN_PEERS="1",
    )
    config = loaded.config
    assert (config.bgp.asn, [p.address for p in config.bgp.peers]) == (64999, ["10.42.0.9"])
    assert config.pools == ("10.0.0.0/16", "fd00:10::/32")
    assert (config.state_dir, config.imports.refuse) == ("/tmp/state", ("10.0.9.0/24",))  # noqa: S108
    assert (config.probe.mode, config.node.name, config.kernel.install) == ("off", "0123", False)
    assert (config.bgp.hold_time, config.fallback.min_peers) == (9.0, 1)
    assert loaded.ignored == ()


def test_null_in_the_environment_unsets() -> None:
    text = GOOD + "node: {address6: 'fd00::1'}\n"
    assert parsed(text, BGP_AGENT_NODE__ADDRESS6="null").config.node.address6 is None
    assert parsed(text, BGP_AGENT_NODE__ADDRESS6="").config.node.address6 is None


def test_names_that_kubernetes_injects_are_ignored_and_told() -> None:
    injected = {
        "BGP_AGENT_SERVICE_HOST": "10.0.0.1",
        "BGP_AGENT_PORT": "tcp://10.0.0.1:9179",
        "BGP_AGENT_PORT_9179_TCP_ADDR": "10.0.0.1",
        "BGP_AGENT_OTHER__KEY": "1",
        "BGP_AGENT_bgp__asn": "1",
    }
    mine = {"BGP_AGENT_CONFIG": "/x", "BGP_AGENT_URL": "http://x", "PATH": "/bin", "bgp_agent_pools": "[]"}
    loaded = parsed(GOOD, **injected, **mine)
    assert loaded.ignored == tuple(sorted(injected))
    assert loaded.config == parsed(GOOD).config


def test_an_override_that_is_wrong_names_the_variable() -> None:
    message = refused(
        GOOD, BGP_AGENT_BGP__ASN="0", BGP_AGENT_BGP__ASSN="1", BGP_AGENT_POOLS="[", BGP_AGENT_LOG__LEVEL="loud"
    )
    assert "environment variable BGP_AGENT_BGP__ASN: bgp.asn: 0 is no AS number" in message
    assert "environment variable BGP_AGENT_BGP__ASSN: bgp.assn: unknown key; did you mean asn?" in message
    assert "environment variable BGP_AGENT_POOLS: pools: is no YAML value" in message
    assert "environment variable BGP_AGENT_LOG__LEVEL: log.level: must be" in message


def test_an_override_makes_a_section_that_the_file_has_not() -> None:
    config = parsed(GOOD, BGP_AGENT_AZURE__SETTLE="5s").config
    assert config.azure is not None
    assert config.azure.settle == 5.0


def test_an_override_does_not_hide_that_its_section_is_wrong() -> None:
    assert f"{PATH}:7:1: kernel: must be a mapping" in refused(GOOD + "kernel: 3\n", BGP_AGENT_KERNEL__METRIC="5")


@given(
    st.dictionaries(
        st.from_regex(r"\ABGP_AGENT_[A-Z]{1,4}(__)?[A-Z_]{0,6}\Z")
        | st.sampled_from(["BGP_AGENT_BGP__ASN", "BGP_AGENT_POOLS", "BGP_AGENT_NODE__NAME"]),
        st.text(),
        max_size=4,
    )
)
def test_no_environment_raises_anything_but_the_one_error(environ: dict[str, str]) -> None:
    try:
        parse(GOOD, PATH, environ, host_name=lambda: "a")
    except ConfigError as error:
        assert str(error)  # noqa: PT017 - any environment may be refused


@given(st.text())
def test_no_text_raises_anything_but_the_one_error(text: str) -> None:
    with pytest.raises(ConfigError):
        parsed(text)


@given(st.data())
def test_a_config_with_one_value_replaced_loads_or_says_why(data: st.DataObject) -> None:
    whole = yaml.safe_load(effective(parsed(GOOD).config))
    at = whole
    while True:
        key = data.draw(st.sampled_from(sorted(at, key=str)) if isinstance(at, dict) else st.integers(0, len(at) - 1))
        if not (isinstance(at[key], (dict, list)) and at[key] and data.draw(st.booleans())):
            break
        at = at[key]
    at[key] = data.draw(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text()
        | st.lists(st.text(), max_size=2)
        | st.dictionaries(st.text(), st.text(), max_size=1)
    )
    try:
        config = parsed(yaml.safe_dump(whole)).config
    except ConfigError as error:
        assert str(error).startswith(str(PATH))  # noqa: PT017 - most values are refused
    else:
        assert parsed(effective(config)).config == config


# --- files -----------------------------------------------------------------------------------------------------------
def test_paths_count_from_the_folder_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(GOOD.replace("10.42.0.5,", "10.42.0.5, password_file: keys/five,") + "state_dir: run\n")
    loaded = load(path, {})
    assert loaded.config.blocks.path == str(tmp_path / "blocks.yaml")
    assert loaded.config.bgp.peers[1].password_file == str(tmp_path / "keys" / "five")
    assert loaded.config.state_dir == str(tmp_path / "run")
    assert loaded.files == (path, tmp_path / "keys" / "five")


def test_a_file_that_cannot_be_used_says_what_to_do(tmp_path: Path) -> None:
    def why(path: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            load(path, {})
        return str(caught.value)

    fifo, latin, endless = tmp_path / "fifo", tmp_path / "latin", tmp_path / "endless"
    os.mkfifo(fifo)
    latin.write_bytes(b"a: 1\nb: \xe4\n")
    with endless.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert (
        why(tmp_path / "none") == f"{tmp_path}/none: is not there: write one with `bgp-agent init`, or name it with -c"
    )
    assert "is not a file" in why(fifo)
    assert "is not a file" in why(tmp_path)
    assert why(latin) == f"{latin}:2: is not UTF-8: save it as UTF-8"
    assert "is longer than" in why(endless)
    assert "Not a directory" in why(latin / "below")


# --- the node --------------------------------------------------------------------------------------------------------
def test_the_node_is_named_by_the_file_then_the_environment_then_the_host() -> None:
    assert parsed(GOOD + "node: {name: file}\n", NODE_NAME="env").config.node.name == "file"
    assert parsed(GOOD, NODE_NAME="env").config.node.name == "env"
    assert parsed(GOOD).config.node.name == "host-a"
    with pytest.raises(ConfigError, match=r"is no node name: set node\.name"):
        parse(GOOD, PATH, {}, host_name=lambda: "a b")


def test_the_address_is_the_one_towards_the_first_peer() -> None:
    asked = []

    def resolve(peer: str) -> str:
        asked.append(peer)
        return "10.42.1.4"

    config = with_address(parsed(GOOD).config, resolve)
    assert (config.node.address, config.bgp.router_id) == ("10.42.1.4", "10.42.1.4")
    assert asked == ["10.42.0.4"]


def test_what_the_file_says_of_the_address_is_not_asked_for() -> None:
    text = GOOD.replace("asn: 64512", "asn: 64512\n  router_id: 9.9.9.9") + "node: {address: 10.42.1.5}\n"
    config = with_address(parsed(text).config, lambda _: pytest.fail("asked"))
    assert (config.node.address, config.bgp.router_id) == ("10.42.1.5", "9.9.9.9")


def test_an_address_of_ipv6_is_no_router_id() -> None:
    config = with_address(parsed(GOOD).config, lambda _: "fd00::1")
    assert (config.node.address, config.bgp.router_id) == ("fd00::1", None)


def test_the_kernel_is_asked_without_a_packet() -> None:
    assert source_address("127.0.0.1") == "127.0.0.1"


# --- warnings --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (GOOD + "azure:\n", f"{PATH}:7:1: azure: is empty, which means off"),
        (GOOD + "fallback: {mode: standby}\n", "fallback.mode: standby has no effect without the section azure"),
        (GOOD + "http: {listen: '0.0.0.0:9179'}\n", "http.listen: 0.0.0.0:9179 is not loopback"),
        (GOOD + "kernel: {protocol: 12}\n", "kernel.protocol: 12 is BIRD's number"),
        (GOOD.replace("192.168.0.0/16", "10.0.0.0/8"), "bgp.peers[0].address: 10.42.0.4 lies in a pool"),
        (GOOD.replace("10.42.0.5,", "10.42.0.5, families: [ipv4, ipv6],"), "set node.address6, or they are withheld"),
    ],
)
def test_what_is_odd_is_said_and_taken(text: str, warning: str) -> None:
    assert any(warning in line for line in parsed(text).warnings)


def test_a_usual_config_warns_of_nothing() -> None:
    assert parsed(GOOD).warnings == ()


def test_a_config_is_a_value() -> None:
    config = parsed(GOOD).config
    assert config == Config.model_validate(config.model_dump(by_alias=True))
    with pytest.raises(ValueError, match="frozen"):
        config.state_dir = "/x"  # type: ignore[misc]  # that it cannot be assigned is the promise

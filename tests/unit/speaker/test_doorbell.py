from __future__ import annotations

import asyncio
import dataclasses
import resource
import socket

import pytest

from bgp_agent.speaker.definition import PeerDefinition
from bgp_agent.speaker.doorbell import Door, Doorbell, doors, md5_signature, source_towards

PEER = PeerDefinition("10.42.0.4", 65515, 64512, "10.42.1.4", local_address="127.0.0.1")


def test_one_door_an_address_with_the_keys_of_its_peers() -> None:
    second = dataclasses.replace(PEER, address="10.42.0.5", password="key")  # noqa: S106
    assert doors([PEER, second]) == {"127.0.0.1": Door("127.0.0.1", (("10.42.0.5", "key"),))}


def test_no_door_where_a_passive_peers_exabgp_listens() -> None:
    passive = dataclasses.replace(PEER, address="10.42.0.5", passive=True)
    assert doors([PEER, passive]) == {}


def test_md5_signature_has_the_size_of_the_kernels_structure() -> None:
    for address in ("10.42.0.4", "fd00::4"):
        assert len(md5_signature(address, "key")) == 128 + 8 + 80


async def test_each_connection_is_a_knock_and_is_closed() -> None:
    knocks: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    bell = Doorbell(port, knocks.append, pytest.fail)
    bell.set_doors({"127.0.0.1": Door("127.0.0.1", ())})
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    assert knocks == ["127.0.0.1"]
    writer.close()
    bell.close()


async def test_taken_port_is_complained_about_once_and_tried_again() -> None:
    complaints: list[str] = []
    door = {"127.0.0.1": Door("127.0.0.1", ())}
    with socket.create_server(("127.0.0.1", 0)) as other:
        bell = Doorbell(other.getsockname()[1], pytest.fail, complaints.append)
        bell.set_doors(door)
        bell.set_doors(door)
    assert len(complaints) == 1
    assert "another program listens there" in complaints[0]
    assert "every few seconds" in complaints[0]
    bell.set_doors(door)
    assert len(complaints) == 1
    bell.close()


async def test_without_descriptors_a_knock_shuts_the_door_until_it_is_set_again_and_the_host_goes_on() -> None:
    knocks: list[str] = []
    wanted = {"127.0.0.1": Door("127.0.0.1", ())}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    bell = Doorbell(port, knocks.append, pytest.fail)
    bell.set_doors(wanted)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as peer:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            peer.connect(("127.0.0.1", port))
            await asyncio.sleep(0.01)
            assert source_towards(dataclasses.replace(PEER, local_address=None)) is None
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert knocks == []
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    bell.set_doors(wanted)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.sleep(0.01)
    assert knocks == ["127.0.0.1"]
    writer.close()
    bell.close()

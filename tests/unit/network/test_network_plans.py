"""Routes, addresses and calls of the network agent, without a kernel."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from bamikube.netlink.links import Device
from bamikube.network.addresses import Addresses, AddressesExhausted, Attachment
from bamikube.network.calls import CniError, HostPort, parse
from bamikube.network.install import executable, install_config, write_atomically
from bamikube.network.routes import Neighbour, plan_routes
from bamikube.network.rules import rules

DEVICE = Device("eth0", 2, 1500, "02:00:00:00:00:01", 24)
OWN = Neighbour("a", "10.99.0.10", "10.244.0.0/24")
NEAR = Neighbour("b", "10.99.0.11", "10.244.1.0/24")
FAR = Neighbour("c", "192.0.2.5", "10.244.2.0/24")
NEW = Neighbour("d", "10.99.0.12", "")


def test_near_nodes_get_plain_routes_and_far_ones_the_overlay() -> None:
    plan = plan_routes(OWN, DEVICE, [OWN, NEAR, FAR, NEW], "auto")
    assert plan.reasons == {"b": "SameNetwork", "c": "Overlay", "d": "NoPodCIDR"}
    assert [(route.destination, route.gateway, route.onlink) for route in plan.routes] == [
        ("10.244.1.0/24", "10.99.0.11", False),
        ("10.244.2.0/24", "10.244.2.0", True),
    ]
    assert plan.mtu == 1450 and plan.vxlan is not None and plan.peers[0].address == "192.0.2.5"


def test_without_an_overlay_far_nodes_are_left_out_and_the_mtu_is_whole() -> None:
    plan = plan_routes(OWN, DEVICE, [NEAR, FAR], "none")
    assert plan.reasons == {"b": "SameNetwork", "c": "NotOnOurNetwork"}
    assert (plan.mtu, plan.vxlan) == (1500, None)


def _attachment(address: str, **more: object) -> Attachment:
    return Attachment(address, f"c-{address}", "eth0", "/proc/self/ns/net", "bk1", 1500, **more)  # type: ignore[arg-type]


def test_addresses_go_round_and_survive_a_restart(tmp_path: Path) -> None:
    held = Addresses(tmp_path)
    assert held.next("10.0.0.0/29") == "10.0.0.2"
    held.keep(_attachment("10.0.0.2", ports=(HostPort("TCP", 80, 8080),)))
    held.free("10.0.0.2")
    assert held.next("10.0.0.0/29") == "10.0.0.3", "not the one just freed"
    held.keep(_attachment("10.0.0.3", ports=(HostPort("TCP", 80, 8080),)))
    (tmp_path / ".10.0.0.4.1").write_text("cut off")
    (tmp_path / "10.0.0.5").write_text("rubbish")
    again = Addresses(tmp_path)
    assert again.all() == [_attachment("10.0.0.3", ports=(HostPort("TCP", 80, 8080),))]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10.0.0.3"]
    assert again.find("c-10.0.0.3", "eth0") is not None
    with pytest.raises(FileExistsError):
        again.keep(_attachment("10.0.0.3"))


def test_a_full_range_is_said_to_be_full(tmp_path: Path) -> None:
    held = Addresses(tmp_path)
    for _ in range(5):
        held.keep(_attachment(held.next("10.0.0.0/29")))
    with pytest.raises(AddressesExhausted, match="all 5 addresses"):
        held.next("10.0.0.0/29")


def test_sandboxes_without_link_or_namespace_have_vanished(tmp_path: Path) -> None:
    held = Addresses(tmp_path)
    held.keep(_attachment("10.0.0.2"))
    assert held.vanished(["bk1"]) == []
    assert len(held.vanished([])) == 1


def _request(config: object, **env: str) -> bytes:
    given = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c",
        "CNI_NETNS": "/n",
        "CNI_IFNAME": "eth0",
        "PLUGIN": "x",
    } | env
    return (
        "\0".join(f"{name}={value}" for name, value in given.items()).encode()
        + b"\0\0"
        + orjson.dumps(config)
    )


def test_calls_are_read_with_their_host_ports() -> None:
    mappings = [
        {"hostPort": 80, "containerPort": 8080, "protocol": "tcp", "hostIP": "0.0.0.0"},
        {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "10.99.0.10"},
        {"hostPort": 0, "containerPort": 9},
        {"HostPort": 18099, "ContainerPort": 81, "Protocol": "tcp", "HostIP": ""},  # as containerd writes it
        {"hostPort": 90, "containerPort": 90, "hostIP": "::1"},
    ]
    call = parse(_request({"cniVersion": "1.0.0", "runtimeConfig": {"portMappings": mappings}}))
    assert call.ports == (
        HostPort("TCP", 80, 8080),
        HostPort("UDP", 53, 53, "10.99.0.10"),
        HostPort("TCP", 18099, 81),
    )


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (_request({"cniVersion": "7.0.0"}), 1),
        (_request({}, CNI_COMMAND="DANCE"), 4),
        (_request({}, CNI_NETNS=""), 4),
        (b"CNI_COMMAND=ADD\0\0not json", 6),
        (_request({"runtimeConfig": {"portMappings": [{"hostPort": 1}]}}), 7),
    ],
)
def test_bad_calls_are_told_what_is_wrong(data: bytes, code: int) -> None:
    with pytest.raises(CniError) as caught:
        parse(data)
    assert caught.value.code == code and str(caught.value)


def test_rules_hold_host_ports_and_the_way_out() -> None:
    table = rules(
        "10.244.1.0/24", "10.244.0.0/16", [_attachment("10.244.1.2", ports=(HostPort("TCP", 80, 8080),))]
    )
    text = table.render()
    assert "tcp . 80 : 10.244.1.2 . 8080" in text
    assert (
        "ip saddr 10.244.1.0/24 ip daddr != 10.244.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random"
        in text
    )


def test_files_appear_whole_and_only_when_they_differ(tmp_path: Path) -> None:
    assert write_atomically(tmp_path / "x" / "y", b"1", 0o755) is True
    assert write_atomically(tmp_path / "x" / "y", b"1", 0o755) is False
    install_config(tmp_path)
    assert (
        orjson.loads((tmp_path / "10-bamikube.conflist").read_bytes())["plugins"][0]["type"] == "bamikube-cni"
    )
    text = executable("/tmp/elsewhere.sock").decode()
    assert (
        text.startswith("#!/") and 'SOCKET = "/tmp/elsewhere.sock"' in text and "import bamikube" not in text
    )

"""The installed CNI plugin, the agent behind its socket, and pods that can talk: in namespaces of our own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bamikube.kit.world import World
from bamikube.netlink.links import Links
from bamikube.netlink.nftables import Nftables
from bamikube.network.addresses import Addresses
from bamikube.network.install import install_config, install_plugin
from bamikube.network.pods import Pods, Site
from tests.integration.netlink.sandbox import Sandbox, on_node

NETWORK = {"cniVersion": "1.0.0", "name": "bamikube", "type": "bamikube-cni"}


class Agent:
    """The agent's CNI half, served on a socket in a temporary directory."""

    def __init__(self, box: Sandbox, directory: Path) -> None:
        self.box = box
        self.directory = directory
        self.links, self.tables = Links(), Nftables()
        self.restart()

    def restart(self) -> None:
        self.pods = Pods(World(), self.links, self.tables, Addresses(self.directory / "state"))

    async def start(self) -> None:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        await self.tables.probe()
        socket_path = self.directory / "network.sock"

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await self.pods.answer(await reader.read()))
            await writer.drain()
            writer.close()

        self.server = await asyncio.start_unix_server(serve, str(socket_path))
        install_plugin(self.directory / "bin", str(socket_path))
        install_config(self.directory / "conf")

    async def call(
        self,
        command: str,
        container: str,
        netns: str,
        config: dict | None = None,
        plugin: str = "bamikube-cni",
    ) -> tuple[int, dict]:  # type: ignore[type-arg]
        process = await asyncio.create_subprocess_exec(
            str(self.directory / "bin" / plugin),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={
                "CNI_COMMAND": command,
                "CNI_CONTAINERID": container,
                "CNI_NETNS": netns,
                "CNI_IFNAME": "lo" if plugin == "loopback" else "eth0",
                "CNI_PATH": str(self.directory / "bin"),
            },
        )
        out, _ = await process.communicate(json.dumps(config or NETWORK).encode())
        assert process.returncode is not None
        return process.returncode, json.loads(out) if out else {}

    async def close(self) -> None:
        self.server.close()
        self.links.close()
        self.tables.close()


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    with on_node("cni") as box:
        box.namespace("outside")
        box.join("node", "10.99.0.11/24", "outside", "10.99.0.1/24")
        made = Agent(box, tmp_path)
        await made.start()
        try:
            yield made
        finally:
            await made.close()


def _site() -> Site:
    return Site("10.244.1.0/24", "10.244.0.0/16", 1450)


async def test_pods_reach_each_other_and_the_node(agent: Agent) -> None:
    await agent.pods.move(_site())
    for name in ("pod1", "pod2"):
        status, answer = await agent.call("ADD", f"c-{name}", agent.box.namespace(name))
        assert status == 0, answer
        assert answer["ips"][0]["gateway"] == "169.254.1.1"
        agent.box.serve(name, "tcp", 8080)
    assert agent.box.ask("pod1", "10.244.1.3", 8080) == ("pod2", "10.244.1.2")
    assert agent.box.ask("node", "10.244.1.2", 8080)[0] == "pod1"
    assert "mtu 1450" in agent.box.ip("link show eth0", "pod1")
    status, _ = await agent.call("CHECK", "c-pod1", agent.box.path("pod1"))
    assert status == 0
    agent.box.ip("addr flush dev eth0", "pod1")
    status, answer = await agent.call("CHECK", "c-pod1", agent.box.path("pod1"))
    assert status == 1 and "does not carry 10.244.1.2" in answer["msg"]


async def test_deleting_is_complete_and_may_be_repeated(agent: Agent) -> None:
    await agent.pods.move(_site())
    path = agent.box.namespace("pod1")
    assert (await agent.call("ADD", "c1", path))[0] == 0
    assert (await agent.call("ADD", "c1", path))[0] == 1, "a second ADD of the same attachment is an error"
    assert os.listdir(agent.directory / "state") == ["10.244.1.2"]
    for _ in range(2):
        assert await agent.call("DEL", "c1", path) == (0, {})
    assert os.listdir(agent.directory / "state") == []
    assert await agent.links.names("bk") == []
    assert await agent.call("DEL", "never-seen", "") == (0, {})


async def test_host_ports_lead_to_the_pod_from_outside_and_are_taken_once(agent: Agent) -> None:
    await agent.pods.move(_site())
    config = NETWORK | {
        "runtimeConfig": {"portMappings": [{"hostPort": 8081, "containerPort": 8080, "protocol": "tcp"}]}
    }
    assert (await agent.call("ADD", "c1", agent.box.namespace("pod1"), config))[0] == 0
    agent.box.serve("pod1", "tcp", 8080)
    assert agent.box.ask("outside", "10.99.0.11", 8081) == ("pod1", "10.99.0.1")
    assert agent.box.ask("node", "10.99.0.11", 8081)[0] == "pod1"
    assert agent.box.ask("pod1", "10.99.0.11", 8081)[0] == "pod1"
    status, answer = await agent.call("ADD", "c2", agent.box.namespace("pod2"), config)
    assert status == 1 and "host port 8081/TCP is taken" in answer["msg"]
    assert (
        "tcp . 8081 : 10.244.1.2 . 8080"
        in subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True).stdout
    )
    await agent.call("DEL", "c1", agent.box.path("pod1"))
    with pytest.raises(ConnectionRefusedError):
        agent.box.ask("outside", "10.99.0.11", 8081)


async def test_traffic_that_leaves_the_cluster_carries_the_nodes_address(agent: Agent) -> None:
    await agent.pods.move(_site())
    agent.box.serve("outside", "tcp", 9000)
    assert (await agent.call("ADD", "c1", agent.box.namespace("pod1")))[0] == 0
    assert agent.box.ask("pod1", "10.99.0.1", 9000) == ("outside", "10.99.0.11")


async def test_addresses_of_vanished_sandboxes_are_freed_at_start(agent: Agent) -> None:
    await agent.pods.move(_site())
    kept, gone = agent.box.namespace("kept"), agent.box.namespace("gone")
    assert (await agent.call("ADD", "kept", kept))[0] == 0
    assert (await agent.call("ADD", "gone", gone))[0] == 0
    subprocess.run(["ip", "netns", "del", Path(gone).name], check=True)
    agent.restart()
    assert await agent.pods.collect() == 1
    assert os.listdir(agent.directory / "state") == ["10.244.1.2"]
    # the kernel takes the veth with the namespace a moment later; either way the address is free and the next differs
    await agent.pods.move(_site())
    assert (await agent.call("CHECK", "kept", kept))[0] == 0


async def test_without_a_pod_cidr_the_runtime_is_told_to_try_later(agent: Agent) -> None:
    status, answer = await agent.call("ADD", "c1", agent.box.namespace("pod1"))
    assert status == 1 and answer["code"] == 11 and "no pod CIDR" in answer["msg"]


async def test_a_failed_add_leaves_nothing(agent: Agent) -> None:
    await agent.pods.move(_site())
    status, answer = await agent.call("ADD", "c1", "/run/netns/there-is-none")
    assert status == 1 and "there-is-none" in answer["msg"]
    assert os.listdir(agent.directory / "state") == [] and await agent.links.names("bk") == []
    status, answer = await agent.call(
        "ADD", "c1", agent.box.namespace("pod1"), NETWORK | {"cniVersion": "9.0.0"}
    )
    assert status == 1 and answer["code"] == 1


async def test_loopback_and_version_and_a_stopped_agent(agent: Agent) -> None:
    path = agent.box.namespace("pod1")
    agent.box.ip("link set lo down", "pod1")
    assert (await agent.call("ADD", "c1", path, {"cniVersion": "0.3.1", "name": "cni-loopback"}, "loopback"))[
        0
    ] == 0
    assert "UP" in agent.box.ip("link show lo", "pod1")
    status, answer = await agent.call("VERSION", "", "")
    assert status == 0 and "1.0.0" in answer["supportedVersions"]
    agent.server.close()
    (agent.directory / "network.sock").unlink()
    status, answer = await agent.call("ADD", "c1", path)
    assert status == 1 and answer["code"] == 11 and "bamikube-network" in answer["msg"]


async def test_plug_time_is_printed(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    await agent.pods.move(_site())
    paths = [agent.box.namespace(f"p{index}") for index in range(8)]
    taken = []
    for index, path in enumerate(paths):
        started = time.perf_counter()
        assert (await agent.call("ADD", f"c{index}", path))[0] == 0
        taken.append((time.perf_counter() - started) * 1000)
    with capsys.disabled():
        print(f"\nCNI ADD, plugin process included: median {sorted(taken)[4]:.1f} ms of 8")

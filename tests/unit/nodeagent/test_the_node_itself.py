"""What a node agent says of its own node: when it is ready, what has happened to it, what it may be called."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from bamikube.api import errors
from bamikube.nodeagent import settings
from bamikube.nodeagent.agent import PodAgent
from bamikube.nodeagent.node import status
from bamikube.nodeagent.node.facts import Machine
from bamikube.nodeagent.node.registrar import Registrar
from bamikube.nodeagent.options import NodeAgentOptions
from bamikube.nodeagent.runtime.port import Condition, Handler, Health, Image, RuntimeFailure
from tests.simulation import virtual
from tests.support.hollow_pods import HollowNode, gate
from tests.unit.nodeagent.test_places_on_the_node import Informer

JSON = dict[str, Any]
MACHINE = Machine(2, 1 << 30, 1 << 34, "amd64", "6", "Linux", "machine", "system", "boot-2")
GOOD = (Condition("RuntimeReady", True), Condition("NetworkReady", True))


class Runtime:
    """One that says it is well, or that hangs."""

    def __init__(self) -> None:
        self.hangs, self.gone = False, False
        self.goes_on = asyncio.Event()

    async def health(self) -> Health:
        if self.gone:
            raise RuntimeFailure("UNAVAILABLE", "connection refused")
        return Health(GOOD)

    async def version(self) -> str:
        if self.hangs:
            await self.goes_on.wait()
        return "containerd://1.6"

    async def list_images(self) -> list[Image]:
        return []


class Client:
    """Takes what is written to the node."""

    def __init__(self) -> None:
        self.wrote: list[JSON] = []

    async def patch(self, resource: str, name: str, body: JSON, **_: Any) -> JSON:
        self.wrote.append(body["status"])
        return {"metadata": {"name": name}, "status": body["status"]}


def ready(written: JSON) -> JSON:
    return next(c for c in written["conditions"] if c["type"] == "Ready")


def registrar(
    node: HollowNode, flags: dict[str, Any] | None = None, **more: Any
) -> tuple[Registrar, Client, Runtime, list[tuple[str, ...]]]:
    client, runtime, told = Client(), Runtime(), []
    config = status.NodeConfig("n", "n", ("192.0.2.1",), {}, (), 10250, 110, **(flags or {}))
    made = Registrar(
        client,  # type: ignore[arg-type]
        node.shared.world,
        runtime,  # type: ignore[arg-type]
        config,
        MACHINE,
        tell=lambda *words: told.append(words),
        **more,
    )
    return made, client, runtime, told


def test_a_runtime_that_hangs_is_down_after_half_a_minute_and_holds_up_nothing_else() -> None:
    async def life() -> None:
        node, short = HollowNode(), [()]
        one, client, runtime, told = registrar(node, pressures=lambda: short[0])
        assert await one.update()
        runtime.hangs, begun = True, node.clock.monotonic()
        short[0] = ("DiskPressure",)
        assert await one.update(), "a runtime that is slow for once"
        assert node.clock.monotonic() - begun <= 2.1
        conditions = {c["type"]: c["status"] for c in client.wrote[-1]["conditions"]}
        assert (conditions["DiskPressure"], conditions["Ready"]) == ("True", "True")
        assert client.wrote[-1]["nodeInfo"]["containerRuntimeVersion"] == "containerd://1.6"

        one.registered.set()
        running = asyncio.ensure_future(one.run())
        await node.clock.sleep(begun + 29.0 - node.clock.monotonic())
        assert ready(client.wrote[-1])["status"] == "True"
        await node.clock.sleep(4.5)
        said = ready(client.wrote[-1])
        assert (said["status"], said["reason"]) == ("False", "KubeletNotReady")
        assert said["message"] == "container runtime is down"
        assert told[-1] == ("Normal", "NodeNotReady", "Node n status is now: NodeNotReady")

        runtime.hangs, begun = False, node.clock.monotonic()
        runtime.goes_on.set()
        await node.clock.sleep(1.5)
        assert ready(client.wrote[-1])["status"] == "True", (
            "it is told of when it answers, not at the next look"
        )
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtual.run(life())


def test_a_runtime_that_was_never_seen_is_told_of_at_once() -> None:
    async def life() -> None:
        one, client, runtime, _ = registrar(HollowNode())
        runtime.hangs = True
        assert not await one.update()
        assert (
            ready(client.wrote[-1])["message"] == "container runtime status check may not have completed yet"
        )

    virtual.run(life())


def test_a_runtime_that_is_begun_anew_leaves_the_node_ready() -> None:
    async def life() -> None:
        one, client, runtime, told = registrar(HollowNode())
        assert await one.update()
        runtime.gone = True
        assert await one.update()
        runtime.gone = False
        assert await one.update()
        assert {ready(status)["status"] for status in client.wrote} == {"True"}
        assert not [words for words in told if words[1] == "NodeNotReady"]

    virtual.run(life())


def test_a_node_that_is_cordoned_and_no_longer_is_tells_of_both_once() -> None:
    async def life() -> None:
        node, cordoned = HollowNode(), [True]
        one, _, _, told = registrar(node, cordoned=lambda: cordoned[0])
        await one.update()
        await one.update()
        cordoned[0] = False
        await one.update()
        said = [words[1] for words in told if "Schedulable" in words[1]]
        assert said == ["NodeNotSchedulable", "NodeSchedulable"]

    virtual.run(life())


@pytest.mark.parametrize(("before", "times"), [("boot-1", 1), ("boot-2", 0), ("", 0)])
def test_a_machine_that_was_booted_again_is_told_of(before: str, times: int) -> None:
    async def life() -> None:
        one, client, _, told = registrar(HollowNode())
        there = {"metadata": {"name": "n"}, "status": {"nodeInfo": {"bootID": before}}}

        async def create(*_: Any) -> JSON:
            raise errors.already_exists("nodes", "n")

        async def get(*_: Any) -> JSON:
            return there

        async def patch(*_: Any, **__: Any) -> JSON:
            return there

        client.create, client.get, client.patch = create, get, patch  # type: ignore[attr-defined, method-assign, assignment]
        await one._register()
        said = [words for words in told if words[1] == "Rebooted"]
        assert said == [("Warning", "Rebooted", "Node n has been rebooted, boot id: boot-2")] * times

    virtual.run(life())


def test_nobody_sees_containers_for_three_minutes() -> None:
    async def life() -> None:
        node, informer = HollowNode(), Informer()
        agent = PodAgent(node.shared, informer, informer, gate())  # type: ignore[arg-type]
        assert agent.ailing() == ()
        running = asyncio.ensure_future(agent.run())
        await node.clock.sleep(60)
        assert agent.ailing() == ()
        whole = node.runtime.list_sandboxes

        async def broken(*_: Any) -> Any:
            raise RuntimeFailure("UNAVAILABLE", "gone")

        node.runtime.list_sandboxes = broken  # type: ignore[method-assign]
        await node.clock.sleep(150)
        assert agent.ailing() == ()
        await node.clock.sleep(40)
        (said,) = agent.ailing()
        assert said.startswith("PLEG is not healthy: pleg was last seen active 3m")
        assert said.endswith(" ago; threshold is 3m0s")
        assert status.ready(None, [said])[2] == f"[container runtime is down, {said}]"
        node.runtime.list_sandboxes = whole  # type: ignore[method-assign]
        await node.clock.sleep(30)
        assert agent.ailing() == () and agent.turns()
        node.runtime.list_sandboxes = broken  # type: ignore[method-assign]
        await node.clock.sleep(280)
        assert agent.turns()
        await node.clock.sleep(40)
        assert not agent.turns()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtual.run(life())


def test_labels_of_kubernetes_own_domains_are_refused_but_for_some() -> None:
    status.check_labels(
        {"role": "x", "node.kubernetes.io/a": "b", "topology.kubernetes.io/zone": "z", "a.io/b": ""}
    )
    with pytest.raises(ValueError, match=r"unknown 'kubernetes\.io' or 'k8s\.io' labels") as refused:
        status.check_labels(
            {"node-role.kubernetes.io/worker": "", "x.k8s.io/a": "", "kubernetes.io/os": "linux"}
        )
    assert "[node-role.kubernetes.io/worker x.k8s.io/a]\n" in str(refused.value)
    assert "prefix (kubelet.kubernetes.io, node.kubernetes.io) or" in str(refused.value)


@pytest.mark.parametrize(("most", "shown"), [(1, 1), (-1, 3), (0, 0)])
def test_images_in_the_status_are_few_and_have_few_names(most: int, shown: int) -> None:
    images = [Image(f"i{n}", tuple(f"t{n}:{k}" for k in range(9)), ("d",), n) for n in range(3)]
    config = status.NodeConfig("n", "n", (), {}, (), 10250, 110, provider_id="a://b", images_max=most)
    told = status.status(config, MACHINE, (), GOOD, "v", images, {}, 0.0)["images"]
    assert len(told) == shown
    assert all(image["names"] == ["d", *(image["names"][1:])] and len(image["names"]) == 5 for image in told)
    assert status.registration(config, MACHINE)["spec"]["providerID"] == "a://b"


class Cluster(Client):
    """One that has no node, or one that somebody else has made."""

    def __init__(self, there: JSON | None = None) -> None:
        super().__init__()
        self.there = there
        self.made = 0
        self.patched: list[JSON] = []

    async def create(self, resource: str, obj: JSON, *_: Any) -> JSON:
        if self.there is not None:
            raise errors.already_exists("nodes", "n")
        self.made += 1
        self.there = obj
        return obj

    async def get(self, *_: Any) -> JSON:
        if self.there is None:
            raise errors.not_found("nodes", "n")
        return self.there

    async def patch(self, resource: str, name: str, body: JSON, **more: Any) -> JSON:
        if self.there is None:
            raise errors.not_found("nodes", "n")
        if more.get("subresource"):
            self.wrote.append(body["status"])
        else:
            self.patched.append(body)
        return self.there


def test_who_does_not_register_waits_for_the_node_that_somebody_makes() -> None:
    async def life() -> None:
        node, cluster = HollowNode(), Cluster()
        one = registrar(node, {"register": False})[0]
        one._client = cluster  # type: ignore[assignment]
        running = asyncio.ensure_future(one.run())
        await node.clock.sleep(5)
        assert not one.registered.is_set() and not cluster.made
        cluster.there = {"metadata": {"name": "n"}}
        await node.clock.sleep(3)
        assert one.registered.is_set() and not cluster.made and not cluster.patched
        assert ready(cluster.wrote[-1])["status"] == "True"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtual.run(life())


def test_a_node_that_was_deleted_stays_so_until_somebody_makes_it_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def life() -> None:
        node, cluster = HollowNode(), Cluster()
        one = registrar(node)[0]
        one._client = cluster  # type: ignore[assignment]
        running = asyncio.ensure_future(one.run())
        await node.clock.sleep(1)
        assert cluster.made == 1
        cluster.there = None
        await node.clock.sleep(700)
        assert cluster.made == 1 and cluster.there is None
        warnings = [text for text in caplog.messages if "it was deleted" in text]
        assert 1 <= len(warnings) <= 3, "not at every look"
        cluster.there, before = {"metadata": {"name": "n"}}, len(cluster.wrote)
        await node.clock.sleep(15)
        assert len(cluster.wrote) > before and cluster.made == 1
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtual.run(life())


def test_of_a_node_that_was_there_before_only_what_every_node_has_is_put_right() -> None:
    config = status.NodeConfig(
        "n", "n", (), {"tier": "a", "topology.kubernetes.io/zone": "z"}, (), 10250, 110
    )
    wanted = status.registration(config, MACHINE)
    every = status.defaults(config, MACHINE)
    assert every == {
        "kubernetes.io/hostname": "n",
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": "amd64",
    }
    assert status.reconciled({"metadata": wanted["metadata"]}, wanted, every.keys()) == {}
    others = {
        **wanted["metadata"]["labels"], "tier": "b", "kubernetes.io/arch": "x", "topology.kubernetes.io/zone": "y",
        "node.kubernetes.io/instance-type": "large",
    }  # fmt: skip
    assert status.reconciled({"metadata": {"labels": others}}, wanted, every.keys()) == {
        "metadata": {
            "labels": {"kubernetes.io/arch": "amd64", "topology.kubernetes.io/zone": "z"},
            "annotations": {status.ATTACH: "true"},
        }
    }


def test_the_status_tells_of_handlers_groups_swap_and_each_address_once() -> None:
    config = status.NodeConfig(
        "n", "h", ("192.0.2.1", "2001:db8::1", "192.0.2.1"), {}, (), 10250, 110, recursive_read_only=True
    )
    told = status.status(config, MACHINE, (), GOOD, "v", (), {}, 0.0)
    assert told["addresses"] == [
        {"type": "InternalIP", "address": "192.0.2.1"},
        {"type": "InternalIP", "address": "2001:db8::1"},
        {"type": "Hostname", "address": "h"},
    ]
    deep = {"recursiveReadOnlyMounts": True, "userNamespaces": False}
    assert told["runtimeHandlers"] == [{"name": "", "features": deep}]
    assert told["features"] == {"supplementalGroupsPolicy": False} and "swap" not in told["nodeInfo"]
    health = Health(GOOD, (Handler("", user_namespaces=True), Handler("runc", True)), strict_groups=True)
    plain, swapping = replace(config, recursive_read_only=False), replace(MACHINE, swap=1 << 20)
    told = status.status(plain, swapping, (), GOOD, "v", (), {}, 0.0, health=health)
    assert told["runtimeHandlers"] == [
        {"name": "", "features": {"recursiveReadOnlyMounts": False, "userNamespaces": True}},
        {"name": "runc", "features": {"recursiveReadOnlyMounts": True, "userNamespaces": False}},
    ]
    assert told["features"] == {"supplementalGroupsPolicy": True}
    assert told["nodeInfo"]["swap"] == {"capacity": 1 << 20}


def test_addresses_and_names_of_a_node_are_looked_at() -> None:
    assert settings.node_ips(["192.0.2.1", "2001:DB8:0::1"]) == ("192.0.2.1", "2001:db8::1")
    for given, said in (
        (["192.0.2.1", "192.0.2.2"], "single IP or a dual-stack pair"),
        (["nowhere"], "could not parse 'nowhere'"),
        (["0.0.0.0", "2001:db8::1"], "dual-stack node IP cannot include"),
        (["224.0.0.1"], "multicast"),
    ):
        with pytest.raises(ValueError, match=f"--node-ip.*{said}"):
            settings.node_ips(given)
    assert settings.node_name("", "Worker-1.Example.com\n") == "worker-1.example.com"
    assert settings.node_name(" W ", "other") == "w"
    with pytest.raises(ValueError, match="empty hostname"):
        settings.node_name("", " ")


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({}, (10.0, 300.0)),
        ({"node_status_update_frequency": "20s"}, (20.0, 20.0)),
        ({"node_status_update_frequency": "20s", "node_status_report_frequency": "1m"}, (20.0, 60.0)),
        ({"node_status_report_frequency": "1m"}, (10.0, 60.0)),
    ],
)
def test_how_often_a_node_is_written_of(given: dict[str, str], seconds: tuple[float, float]) -> None:
    assert settings.status_frequencies(NodeAgentOptions(**given)) == seconds  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="--node-status-update-frequency: has to be longer"):
        settings.status_frequencies(NodeAgentOptions(node_status_update_frequency="0s"))

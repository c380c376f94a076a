"""Every file tests/golden/placement/<case>.input.yaml has an .output.yaml: where containers run on a machine that is invented.

The pods of a story arrive (or leave) one after the other; the output shows the processors, the memory nodes and the devices' nodes of each
container, or why the pod was refused. ``BAMIKUBE_GOLDEN=write`` writes the outputs anew; read the difference before committing it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from bamikube.nodeagent.cpus import policy, pool
from bamikube.nodeagent.cpus.choice import Machine, Processor, listed
from bamikube.nodeagent.devices import near
from bamikube.nodeagent.devices.book import Book, Device, Given
from bamikube.nodeagent.node.reservations import processors
from bamikube.nodeagent.numa import reserved, topology
from bamikube.nodeagent.numa.managers import Managers
from bamikube.nodeagent.numa.memory import MemoryBook
from bamikube.nodeagent.numa.nodes import NumaNode, NumaNodes
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.quantity import number

FOLDER = Path(__file__).parents[2] / "golden" / "placement"
CASES = sorted(path.name.removesuffix(".input.yaml") for path in FOLDER.glob("*.input.yaml"))
JSON = dict[str, Any]


def _machine(given: JSON) -> tuple[Machine, NumaNodes]:
    """Second threads are numbered after all first ones, as Linux does."""
    sockets, cores, threads = given["sockets"], given["cores"], given.get("threads", 1)
    per_node = cores // given.get("nodes-of-a-socket", 1)
    per_cache = given.get("cores-of-a-cache", cores)
    cpus = tuple(
        Processor(
            thread * sockets * cores + core, core % cores, core // cores, core // per_node, core // per_cache
        )
        for thread in range(threads)
        for core in range(sockets * cores)
    )
    count = sockets * cores // per_node
    pages = tuple((name, int(number(size))) for name, size in given.items() if name.startswith("hugepages-"))
    far = given.get("distances") or [[10 if a == b else 20 for b in range(count)] for a in range(count)]
    memory = int(number(given.get("memory", "8Gi")))
    return cpus, tuple(NumaNode(n, memory, pages, tuple(enumerate(far[n]))) for n in range(count))


def _pod(step: JSON) -> JSON:
    def container(name: str, given: JSON) -> JSON:
        amounts = {"memory": "64Mi"} | {k: str(v) for k, v in given.items() if k not in ("sidecar", "only")}
        requests = amounts | ({"cpu": "100m"} if "only" in given else {})
        made: JSON = {"name": name, "resources": {"limits": amounts, "requests": requests}}
        return made | ({"restartPolicy": "Always"} if given.get("sidecar") else {})

    spec: JSON = {
        "initContainers": [container(f"init-{n}", one) for n, one in enumerate(step.get("init", ()))],
        "containers": [container(f"app-{n}", one) for n, one in enumerate(step["containers"])],
    }
    if "resources" in step:
        whole = {k: str(v) for k, v in step["resources"].items()}
        spec["resources"] = {"limits": whole, "requests": whole}
    return {"metadata": {"name": step["arrives"], "uid": step["arrives"]}, "spec": spec}


def _managers(case: JSON, folder: Path, devices: Book) -> Managers:
    flags = case["flags"]
    cpus, nodes = _machine(case["machine"])
    found = Managers(devices=lambda pod, spec, every: near.hints(devices, pod, spec, every))
    if flags.get("cpu-manager-policy") == "static":
        options = policy.options("static", flags.get("cpu-manager-policy-options", {}))
        policy.check(options, cpus, flags.get("topology-manager-policy", "none"))
        named = processors("--reserved-cpus", flags["reserved-cpus"])
        found.cpus = pool.static(cpus, named, 0, options, folder)
    if flags.get("memory-manager-policy") == "Static":
        parts = reserved.parse([flags["reserved-memory"]])
        bytes_of = {n: {k: v.value() for k, v in one.items()} for n, one in parts.items()}
        found.memory = MemoryBook(nodes, bytes_of, folder / "memory")
    found.topology = topology.topology(
        flags.get("topology-manager-policy", "none"),
        flags.get("topology-manager-scope", "container"),
        flags.get("topology-manager-policy-options", {}),
        lambda: nodes,
    )
    return found


def _give(devices: Book, made: Managers, pod: JSON) -> JSON:
    """What the device manager does after the gate; the devices of each container."""
    found: JSON = {}
    for spec in facts.all_containers(pod):
        for resource, count in devices.wants(spec).items():
            choice = devices.choose(pod, spec["name"], resource, count)
            assert choice is not None
            choice = near.nearest(devices, resource, choice, made.near(facts.uid(pod), spec["name"]))
            ids = (*choice.must, *choice.free[: choice.wanted])
            devices.given[facts.uid(pod), spec["name"], resource] = Given(ids, b"")
            found.setdefault(spec["name"], {})[resource] = ",".join(ids)
    return found


def made(case: JSON, folder: Path) -> JSON:
    devices = Book(
        {
            name: {one: Device(True, (node,)) for one, node in ids.items()}
            for name, ids in case.get("devices", {}).items()
        }
    )
    managers, there, result = _managers(case, folder, devices), list[JSON](), dict[str, Any]()
    for step in case["story"]:
        if "leaves" in step:
            there = [pod for pod in there if facts.uid(pod) != step["leaves"]]
            devices.forget(facts.uid(pod) for pod in there)
            continue
        pod = _pod(step)
        refusal = managers.admit(pod, there)
        if refusal is not None:
            result[facts.uid(pod)] = {"reason": refusal[0], "message": refusal[1]}
            continue
        there.append(pod)
        given = _give(devices, managers, pod)
        for spec in facts.all_containers(pod):
            place = managers.place(facts.uid(pod), spec["name"])
            shown = {"cpus": place.cpus, "memories": place.memories, "alone": place.alone}
            if (nodes := managers.near(facts.uid(pod), spec["name"])) is not None:
                shown["nodes"] = listed(nodes)
            shown = {key: value for key, value in shown.items() if value} | given.get(spec["name"], {})
            result.setdefault(facts.uid(pod), {})[spec["name"]] = shown
    return result


@pytest.mark.parametrize("name", CASES)
def test_places_match_their_golden_file(name: str, tmp_path: Path) -> None:
    case = yaml.safe_load((FOLDER / f"{name}.input.yaml").read_text())
    found = made(case, tmp_path)
    output = FOLDER / f"{name}.output.yaml"
    if os.environ.get("BAMIKUBE_GOLDEN") == "write":
        output.write_text(yaml.safe_dump(found, sort_keys=False, width=110))
    assert found == yaml.safe_load(output.read_text())

"""A device plugin (a small one of ours) on a node of the lab: its devices are given to pods, over a restart of the node agent too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
THING = "example.com/thing"
NODE = "worker-1"


class Plugin:
    """The plugin as a process in the mount namespace of the node."""

    def __init__(self, bamikube: Any) -> None:
        self._bamikube = bamikube
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = ["nsenter", "-t", str(self._bamikube.unit_pid(NODE, "nodeagent")), "-m", "--", sys.executable]
        argv += ["-m", "tests.support.device_plugin", "/var/lib/kubelet/device-plugins", THING, "a", "b", "c"]
        environment = os.environ | {"PYTHONPATH": f"{ROOT}/services:{ROOT}"}
        self._process = subprocess.Popen(argv, env=environment, cwd="/", stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def plugin(bamikube: Any) -> Iterator[Plugin]:
    made = Plugin(bamikube)
    made.start()
    yield made
    made.stop()


def pod(name: str, number: int) -> dict[str, Any]:
    script = "echo $THINGS; ls /dev | grep thing; ls -d /things; exec sleep 1000"
    container = {
        "name": "app", "image": "busybox:1.36", "command": ["sh", "-c", script],
        "resources": {"limits": {THING: str(number)}},
    }  # fmt: skip
    spec = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def test_devices_are_given_to_pods(
    kubectl: Any, bamikube: Any, namespace: str, eventually: Callable[..., Any], plugin: Plugin
) -> None:
    cluster, within = kubectl, kubectl.within(namespace)
    eventually(lambda: within.run("get", "sa", "default").returncode == 0, 20, "account")

    def usable() -> str | None:
        found: str | None = cluster.json("get", "node", NODE)["status"]["allocatable"].get(THING)
        return found

    def phase(name: str) -> str:
        return str(within.json("get", "pod", name)["status"]["phase"])

    eventually(lambda: usable() == "3", 30, "the node has devices")
    within("create", "-f", "-", stdin=json.dumps(pod("two", 2)))  # where it goes is for the scheduler to say
    eventually(lambda: phase("two") == "Running", 60, "the pod with devices")
    assert within("logs", "two").split() == ["a,b", "thing-a", "thing-b", "/things"]

    too_many = pod("too-many", 2)
    too_many["spec"]["nodeName"] = NODE
    within("create", "-f", "-", stdin=json.dumps(too_many))
    eventually(lambda: phase("too-many") == "Failed", 30, "the refusal")
    status = within.json("get", "pod", "too-many")["status"]
    words = f"requested number of devices unavailable for {THING}. Requested: 2, Available: 1"
    assert status["reason"] == "UnexpectedAdmissionError"
    assert status["message"] == f"Pod was rejected: Allocate failed due to {words}, which is unexpected"

    plugin.stop()
    eventually(lambda: usable() == "0", 30, "nobody offers devices any more")
    before = bamikube.unit_pid(NODE, "nodeagent")
    os.kill(before, signal.SIGKILL)
    eventually(lambda: bamikube.unit_pid(NODE, "nodeagent") not in (0, before), 30, "another node agent")
    plugin.start()
    eventually(lambda: usable() == "3", 60, "the plugin has registered again")
    assert phase("two") == "Running"
    within("create", "-f", "-", stdin=json.dumps(pod("third", 1)))
    eventually(lambda: phase("third") == "Running", 60, "another pod")
    assert within("logs", "third").split()[0] == "c", "what was given before is still somebody's"
    within("delete", "pod", "two")
    within("create", "-f", "-", stdin=json.dumps(pod("fourth", 2)))
    eventually(lambda: phase("fourth") == "Running", 60, "devices of a pod that has gone")

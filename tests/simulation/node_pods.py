"""The pods of a node's histories: what they are made of, by the dice."""

from __future__ import annotations

import json
import zlib
from typing import Any

from bamikube.kit.chance import Chance

JSON = dict[str, Any]


def pod(name: str, node: str, chance: Chance) -> JSON:
    """A pod bound to ``node``. Those named ``rock-`` only run: nothing but the machine's faults may end their containers."""
    if name.startswith("rock-"):
        spec: JSON = {"containers": [{"name": "app", "image": "app:0", "args": ["run"]}]}
    else:
        spec = _spec(chance)
    if zlib.crc32(name.encode()) % 4 == 0:
        spec["hostUsers"] = False
    spec |= {"nodeName": node, "automountServiceAccountToken": False}
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def _spec(chance: Chance) -> JSON:
    policy = chance.choice(("Always", "Always", "OnFailure", "Never"))
    spec: JSON = {
        "restartPolicy": policy,
        "terminationGracePeriodSeconds": chance.randrange(1, 12),
        "containers": [_container(f"app{n}", policy, chance) for n in range(chance.choice((1, 1, 2)))],
        "volumes": [{"name": "scratch", "emptyDir": {}}],
    }
    init: list[JSON] = []
    if chance.random() < 0.4:
        init.append(_ends("init", chance, chance.choice(("0", "0", "0", "1"))))
    if chance.random() < 0.3:
        init.append({"name": "side", "image": "app:0", "args": ["run"], "restartPolicy": "Always"})
    if init:
        spec["initContainers"] = init
    if chance.random() < 0.1:
        spec["activeDeadlineSeconds"] = chance.randrange(5, 60)
    return spec


def _ends(name: str, chance: Chance, code: str) -> JSON:
    return {"name": name, "image": "app:0", "args": ["exit", f"{chance.uniform(0.0, 5.0):.3f}", code]}


def _container(name: str, policy: str, chance: Chance) -> JSON:
    kind = chance.choice(("run", "run", "stubborn", "exit"))
    if kind == "exit":
        made = _ends(name, chance, chance.choice(("0", "0", "1", "7")))
    else:
        made = {"name": name, "image": "app:0", "args": [kind]}
    made["image"] = f"app:{chance.randrange(0, 4)}"
    made["resources"] = {"requests": {"cpu": chance.choice(("100m", "500m", "1"))}}
    if chance.random() < 0.3:
        made["livenessProbe"] = {"exec": {"command": ["x"]}, "periodSeconds": 2, "failureThreshold": 2}
    if chance.random() < 0.3:
        made["readinessProbe"] = {"exec": {"command": ["x"]}, "periodSeconds": 1}
    if chance.random() < 0.2:
        made["startupProbe"] = {"exec": {"command": ["x"]}, "periodSeconds": 1, "failureThreshold": 30}
    hooks = {
        kind: {"exec": {"command": ["x"]}} for kind in ("postStart", "preStop") if chance.random() < 0.25
    }
    if hooks:
        made["lifecycle"] = hooks
    return made


def manifest(name: str, chance: Chance) -> str:
    """A static pod: it holds its place whoever else is there."""
    version = f"app:{chance.randrange(0, 4)}"
    app = {"name": "app", "image": version, "args": ["run"], "resources": {"requests": {"cpu": "1"}}}
    spec: JSON = {"containers": [app], "terminationGracePeriodSeconds": 3}
    if chance.random() < 0.3:
        spec["initContainers"] = [_ends("init", chance, "0")]
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})

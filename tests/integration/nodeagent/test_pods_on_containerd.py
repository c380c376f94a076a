"""Pods on real containerd: started, probed, restarted, stopped, and nothing left behind."""

from __future__ import annotations

import base64
import os
from typing import Any

JSON = dict[str, Any]


def state(worker: Any, index: int = 0, field: str = "containerStatuses") -> JSON:
    items = worker.status.get(field) or []
    return items[index]["state"] if len(items) > index else {}


def condition(worker: Any, kind: str) -> str:
    return next((c["status"] for c in worker.status.get("conditions", []) if c["type"] == kind), "")


async def test_a_pod_runs_becomes_ready_and_leaves_nothing(node: Any, until: Any) -> None:
    worker = node.run(node.pod("web", {"containers": [{"name": "app", "command": ["sleep", "1000"]}]}))
    await until(lambda: condition(worker, "Ready") == "True")
    assert worker.status["phase"] == "Running"
    assert worker.status["podIP"].startswith("10.213.0.")
    assert node.api.reasons() == ["Pulled", "Created", "Started"]
    node.delete(worker)
    await until(lambda: node.api.deleted == ["web"] and not node.workers)
    assert await node.runtime.list_containers(worker.uid) == []
    assert await node.runtime.list_sandboxes(worker.uid) == []
    assert worker.uid not in node.host.known_pods()


async def test_init_containers_run_in_order_before_the_rest(node: Any, until: Any) -> None:
    share = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    worker = node.run(
        node.pod(
            "ordered",
            {
                "restartPolicy": "Never",
                "volumes": [{"name": "data", "emptyDir": {}}],
                "initContainers": [
                    {"name": "one", "command": ["sh", "-c", "echo one >> /data/log"], **share},
                    {"name": "two", "command": ["sh", "-c", "echo two >> /data/log"], **share},
                ],
                "containers": [
                    {"name": "app", "command": ["sh", "-c", "cat /data/log > /dev/termination-log"], **share}
                ],
            },
        )
    )
    await until(lambda: worker.status.get("phase") == "Succeeded")
    assert state(worker)["terminated"]["message"] == "one\ntwo\n"
    assert state(worker, 0, "initContainerStatuses")["terminated"]["reason"] == "Completed"


async def test_a_crash_is_restarted_at_once_and_then_backs_off(node: Any, until: Any) -> None:
    worker = node.run(node.pod("crash", {"containers": [{"name": "app", "command": ["sh", "-c", "exit 3"]}]}))
    await until(lambda: state(worker).get("waiting", {}).get("reason") == "CrashLoopBackOff")
    item = worker.status["containerStatuses"][0]
    assert item["restartCount"] == 1
    assert item["lastState"]["terminated"]["exitCode"] == 3
    assert item["state"]["waiting"]["message"].startswith(
        "back-off 10s restarting failed container=app pod=crash_default("
    )
    assert "BackOff" in node.api.reasons()


async def test_of_dead_containers_one_is_kept_with_its_log(node: Any, until: Any) -> None:
    container = {"name": "app", "command": ["sh", "-c", "echo said; exit 1"]}
    worker = node.run(node.pod("again", {"containers": [container]}))
    folder, links = node.logs / "pods" / f"default_again_{worker.uid}", node.logs / "containers"

    def kept() -> bool:
        """The second attempt has ended, and nothing of the first is left."""
        found = worker.state.containers
        return [(c.attempt, c.state) for c in found] == [(1, "exited")] and not (
            folder / "app/0.log"
        ).exists()

    await until(kept)
    (left,) = await node.runtime.list_containers(worker.uid)
    (link,) = links.glob("again_default_app-*.log")
    assert link.name == f"again_default_app-{left.id}.log"
    assert os.readlink(link) == f"{folder}/app/1.log" and "stdout F said" in link.read_text()
    node.delete(worker)
    await until(lambda: worker.uid not in node.workers)
    assert await node.runtime.list_containers(worker.uid) == []
    assert not folder.exists() and list(links.iterdir()) == []


async def test_config_maps_secrets_and_tokens_are_files_and_variables(node: Any, until: Any) -> None:
    node.api.objects[("ConfigMap", "settings")] = {"kind": "ConfigMap", "data": {"color": "green"}}
    node.api.objects[("Secret", "key")] = {
        "kind": "Secret",
        "data": {"pass": base64.b64encode(b"s3cret").decode()},
    }
    script = 'echo "$COLOR $WHO $PASS $(cat /etc/settings/color) $(cat /var/run/t/token) $(cat /etc/hostname)" > /dev/termination-log'
    worker = node.run(
        node.pod(
            "configured",
            {
                "restartPolicy": "Never",
                "volumes": [
                    {"name": "settings", "configMap": {"name": "settings"}},
                    {
                        "name": "token",
                        "projected": {
                            "sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}]
                        },
                    },
                ],
                "containers": [
                    {
                        "name": "app",
                        "command": ["sh", "-c", script],
                        "env": [
                            {"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                            {"name": "PASS", "valueFrom": {"secretKeyRef": {"name": "key", "key": "pass"}}},
                            {
                                "name": "COLOR",
                                "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}},
                            },
                        ],
                        "volumeMounts": [
                            {"name": "settings", "mountPath": "/etc/settings"},
                            {"name": "token", "mountPath": "/var/run/t", "readOnly": True},
                        ],
                    }
                ],
            },
        )
    )
    await until(lambda: worker.status.get("phase") in ("Succeeded", "Failed"))
    assert (
        state(worker)["terminated"]["message"]
        == "green configured s3cret green token-of-the-pod configured\n"
    )


async def test_probes_decide_readiness_and_restarts(node: Any, until: Any) -> None:
    probe = {"periodSeconds": 1, "failureThreshold": 1}
    worker = node.run(
        node.pod(
            "probed",
            {
                "containers": [
                    {
                        "name": "app",
                        "command": ["sh", "-c", "touch /tmp/alive; sleep 1; touch /tmp/ready; sleep 1000"],
                        "readinessProbe": {"exec": {"command": ["cat", "/tmp/ready"]}, **probe},
                        "livenessProbe": {
                            "exec": {"command": ["cat", "/tmp/alive"]},
                            "initialDelaySeconds": 1,
                            **probe,
                        },
                    }
                ]
            },
        )
    )
    await until(
        lambda: condition(worker, "PodReadyToStartContainers") == "True" and "running" in state(worker)
    )
    assert condition(worker, "Ready") == "False"
    await until(lambda: condition(worker, "Ready") == "True")
    running = next(c for c in worker.state.containers if c.state == "running")
    await node.runtime.exec_sync(running.id, ["rm", "/tmp/alive"], 5)
    await until(lambda: worker.status["containerStatuses"][0]["restartCount"] == 1)
    assert "Container app failed liveness probe, will be restarted" in [m for _, m in node.api.events]


async def test_http_probes_reach_the_pod(node: Any, until: Any) -> None:
    worker = node.run(
        node.pod(
            "http",
            {
                "containers": [
                    {
                        "name": "app",
                        "command": ["httpd", "-f", "-p", "8080", "-h", "/etc"],
                        "ports": [{"name": "web", "containerPort": 8080}],
                        "readinessProbe": {
                            "httpGet": {"path": "/hostname", "port": "web"},
                            "periodSeconds": 1,
                        },
                        "lifecycle": {"postStart": {"exec": {"command": ["touch", "/tmp/begun"]}}},
                    }
                ]
            },
        )
    )
    await until(lambda: condition(worker, "Ready") == "True")


async def test_a_missing_image_is_told_and_waits(node: Any, until: Any) -> None:
    spec = {"containers": [{"name": "app", "image": "bamikube.test/none:1", "imagePullPolicy": "Never"}]}
    worker = node.run(node.pod("missing", spec))
    await until(lambda: state(worker).get("waiting", {}).get("reason") == "ErrImageNeverPull")
    spec = {"containers": [{"name": "app", "image": "Not A Name"}]}
    other = node.run(node.pod("invalid", spec))
    await until(lambda: state(other).get("waiting", {}).get("reason") == "InvalidImageName")


async def test_containers_survive_a_new_worker(node: Any, until: Any) -> None:
    """And a pod that was ready stays so: its probes go on from what they had found out."""
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 1}
    app = {"name": "app", "command": ["sleep", "1000"], "startupProbe": probe, "readinessProbe": probe}
    worker = node.run(node.pod("survivor", {"containers": [app]}))
    await until(lambda: condition(worker, "Ready") == "True")
    before = worker.status["containerStatuses"][0]["containerID"]
    await worker.close()
    told = len(node.api.patches)
    again = node.run(worker.pod | {"status": worker.status})
    await until(lambda: again.memory.volumes_ready and again.memory.probes)
    assert again.status["containerStatuses"][0]["containerID"] == before
    assert again.status["containerStatuses"][0]["restartCount"] == 0
    assert condition(again, "Ready") == "True" and not node.api.patches[told:]


async def test_a_lost_sandbox_is_replaced(node: Any, until: Any) -> None:
    worker = node.run(node.pod("moved", {"containers": [{"name": "app", "command": ["sleep", "1000"]}]}))
    await until(lambda: condition(worker, "Ready") == "True")
    first = worker.state.sandbox().id
    await node.runtime.stop_sandbox(first)
    worker.wake()
    await until(
        lambda: (
            worker.state.sandbox()
            and worker.state.sandbox().id != first
            and condition(worker, "Ready") == "True"
        )
    )
    assert worker.status["containerStatuses"][0]["restartCount"] >= 1
    assert "SandboxChanged" in node.api.reasons()


async def test_prestop_runs_before_the_stop(node: Any, until: Any) -> None:
    spec = {
        "volumes": [{"name": "out", "emptyDir": {"medium": "Memory"}}],
        "containers": [
            {
                "name": "app",
                "command": [
                    "sh",
                    "-c",
                    "trap 'cat /out/said > /dev/termination-log; exit 0' TERM; while true; do sleep 0.1; done",
                ],
                "volumeMounts": [{"name": "out", "mountPath": "/out"}],
                "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "echo bye > /out/said"]}}},
            }
        ],
    }
    worker = node.run(node.pod("polite", spec))
    await until(lambda: condition(worker, "Ready") == "True")
    node.delete(worker, 10)
    await until(lambda: not node.workers)
    assert state(worker)["terminated"]["message"] == "bye\n"
    assert worker.status["phase"] == "Succeeded"

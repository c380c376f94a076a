"""subPath and subPathExpr on real containerd: made, bound, expanded, and never a way out of the volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

JSON = dict[str, Any]
HELD = "trap 'exit 0' TERM; sleep 1000 & wait"  # ends at once when told to
VOLUME = [{"name": "v", "emptyDir": {}}]


def state(worker: Any, index: int = 0, field: str = "containerStatuses") -> JSON:
    items = worker.status.get(field) or []
    return items[index]["state"] if len(items) > index else {}


def waiting(worker: Any) -> str:
    return str(state(worker).get("waiting", {}).get("reason", ""))


def said(worker: Any) -> str:
    return str((state(worker).get("terminated") or {}).get("message", ""))


def container(script: str, *mounts: JSON, **more: Any) -> JSON:
    return {"name": "app", "command": ["sh", "-c", script], "volumeMounts": list(mounts), **more}


async def test_parts_of_volumes_are_made_with_their_volumes_mode_and_go_with_the_pod(
    node: Any, until: Any, tmp_path: Path
) -> None:
    node.api.objects[("ConfigMap", "settings")] = {"data": {"color": "green"}}
    spec = {
        "restartPolicy": "Never",
        "securityContext": {"runAsUser": 1000, "fsGroup": 1001},
        "volumes": [*VOLUME, {"name": "settings", "configMap": {"name": "settings"}}],
        "containers": [
            container(
                "echo deep > /whole/a/b/file; cat /part/file /color; echo;"
                " stat -c %a-%g /part >> /dev/termination-log; " + HELD,
                {"name": "v", "mountPath": "/whole"},
                {"name": "v", "mountPath": "/part", "subPath": "a/b"},
                {"name": "v", "mountPath": "/named", "subPathExpr": "expanded-$(POD)"},
                {"name": "settings", "mountPath": "/color", "subPath": "color"},
                env=[{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            )
        ],
    }
    worker = node.run(node.pod("p", spec))
    await until(lambda: "running" in state(worker))
    log = Path(node.host.log_directory(worker.pod)) / "app" / "0.log"
    await until(lambda: "green" in log.read_text())
    assert "deep" in log.read_text()
    base = Path(node.host._pod(worker.uid))
    found = base / "volumes" / "kubernetes.io~empty-dir" / "v"
    assert (found / "a" / "b").stat().st_mode & 0o7777 == 0o2777
    assert (found / "a" / "b").stat().st_gid == 1001
    assert (found / "expanded-p").is_dir()
    assert (base / "containers" / "app" / "0").read_text() == "2777-1001\n"
    assert (base / "volume-subpaths" / "settings" / "app" / "3").read_text() == "green"
    node.delete(worker)
    await until(lambda: not node.workers)
    assert not base.exists() and "volume-subpaths" not in Path("/proc/self/mountinfo").read_text()


async def test_links_that_leave_the_volume_are_refused(node: Any, until: Any) -> None:
    spec = {
        "restartPolicy": "Never",
        "volumes": VOLUME,
        "initContainers": [
            container("ln -s /etc /v/out; ln -s real /v/in; mkdir /v/real", {"name": "v", "mountPath": "/v"})
            | {"name": "links"}
        ],
        "containers": [container("touch /part/here", {"name": "v", "mountPath": "/part", "subPath": "out"})],
    }
    worker = node.run(node.pod("escape", spec))
    text = 'failed to prepare subPath for volumeMount "v" of container "app"'
    await until(lambda: waiting(worker) == "CreateContainerConfigError")
    assert state(worker)["waiting"]["message"] == text
    assert ("Failed", f"Error: {text}") in node.api.events
    deeper = spec | {
        "containers": [container("true", {"name": "v", "mountPath": "/part", "subPath": "out/new/dir"})]
    }
    worker = node.run(node.pod("escape-deeper", deeper))
    await until(lambda: waiting(worker) == "CreateContainerConfigError")
    assert not Path("/etc/new").exists()
    assert state(worker)["waiting"]["message"].startswith("failed to create subPath directory")
    inside = spec | {
        "containers": [
            container(
                "touch /part/x; ls /v/real > /dev/termination-log",
                {"name": "v", "mountPath": "/v"},
                {"name": "v", "mountPath": "/part", "subPath": "in"},
            )
        ]
    }
    worker = node.run(node.pod("inside", inside))
    await until(lambda: worker.status.get("phase") == "Succeeded")
    assert said(worker) == "x\n"


async def test_expressions_that_do_not_hold_are_tried_again_when_the_pod_changes(
    node: Any, until: Any
) -> None:
    def pod(name: str, value: JSON, **meta: Any) -> Any:
        mount = {"name": "v", "mountPath": "/part", "subPathExpr": "$(PLACE)"}
        app = container(HELD, mount, env=[{"name": "PLACE", **value}])
        return node.run(node.pod(name, {"volumes": VOLUME, "containers": [app]}, **meta))

    for value, text in (
        ("/absolute", "error SubPath `/absolute` must not be an absolute path"),
        ("..", "unable to provision SubPath `..`: must not contain '..'"),
    ):
        worker = pod("bad", {"value": value})
        await until(lambda: waiting(worker) == "CreateContainerConfigError")  # noqa: B023
        assert state(worker)["waiting"]["message"] == text
    source = {"valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['place']"}}}
    worker = pod("later", source, annotations={})
    await until(lambda: waiting(worker) == "CreateContainerConfigError")
    assert state(worker)["waiting"]["message"] == "missing value for PLACE"
    worker.update(worker.pod | {"metadata": worker.pod["metadata"] | {"annotations": {"place": "here"}}})
    await until(lambda: "running" in state(worker))


async def test_a_container_that_starts_again_sees_the_file_of_today(node: Any, until: Any) -> None:
    """The old bind still shows the file of yesterday; even a part that was removed from its volume is made again."""
    settings = node.api.objects[("ConfigMap", "settings")] = {"data": {"color": "green"}}
    script = "cat /color; echo; touch /part/x; while [ ! -e /e/go ]; do sleep 0.05; done; rm /e/go"
    spec = {
        "volumes": [*VOLUME, {"name": "settings", "configMap": {"name": "settings"}}],
        "containers": [
            container(
                script,
                {"name": "settings", "mountPath": "/color", "subPath": "color"},
                {"name": "v", "mountPath": "/part", "subPath": "part"},
                {"name": "v", "mountPath": "/e"},
            )
        ],
    }
    worker = node.run(node.pod("again", spec))
    folder = Path(node.host._pod(worker.uid)) / "volumes"
    shared = folder / "kubernetes.io~empty-dir" / "v"
    log = Path(node.host.log_directory(worker.pod)) / "app"
    await until(lambda: (shared / "part" / "x").exists())
    settings["data"]["color"] = "blue"
    worker.referred()
    await until(lambda: (folder / "kubernetes.io~configmap" / "settings" / "color").read_text() == "blue")
    (shared / "part" / "x").unlink()
    (shared / "part").rmdir()
    (shared / "go").touch()
    await until(lambda: (log / "1.log").exists() and "blue" in (log / "1.log").read_text())
    assert "green" in (log / "0.log").read_text() and (shared / "part" / "x").exists()

"""``/runningpods``: what the runtime runs, as pods; whatever the API may say of them."""

from __future__ import annotations

from collections.abc import Iterable

from bamikube.nodeagent import labels
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.runtime.port import Container, Sandbox


def running_pods(sandboxes: Iterable[Sandbox], containers: Iterable[Container]) -> list[JSON]:
    """A pod for everything that has a ready sandbox or a running container. Pure."""
    pods: dict[str, JSON] = {}

    def pod(uid: str, name: str, namespace: str) -> JSON:
        return pods.setdefault(
            uid,
            {
                "metadata": {"name": name, "namespace": namespace, "uid": uid},
                "spec": {"containers": []},
                "status": {},
            },
        )

    for sandbox in sandboxes:
        if sandbox.ready:
            pod(sandbox.uid, sandbox.name, sandbox.namespace)
    for one in containers:
        if one.state == "running":
            words = (
                one.labels.get(key, "") for key in (labels.POD_UID, labels.POD_NAME, labels.POD_NAMESPACE)
            )
            container = {"name": one.name, "image": one.image, "resources": {}}
            pod(*words)["spec"]["containers"].append(container)
    return list(pods.values())

"""Defaults of pods and of the pod templates in everything that makes pods.

Two things hold for pods only, not for templates: requests follow limits, and service links are on. (That is how
Kubernetes does it: a template must not change meaning when it is read back.)
"""

from __future__ import annotations

from typing import Any

DEFAULT_MODE = 0o644


def image_tag(image: str) -> str:
    """The tag of an image name: ``latest`` when it has neither tag nor digest, "" when it has only a digest.

    >>> image_tag("localhost:5000/app"), image_tag("nginx:1.27"), image_tag("nginx@sha256:00")
    ('latest', '1.27', '')
    """
    name, _, digest = image.partition("@")
    last = name.rpartition("/")[2]
    tag = last.partition(":")[2]
    return tag or ("" if digest else "latest")


def pull_policy(image: str) -> str:
    """``Always`` for a moving tag, ``IfNotPresent`` else."""
    return "Always" if image_tag(image) == "latest" else "IfNotPresent"


def _http_get(action: dict[str, Any]) -> None:
    action["path"] = action.get("path") or "/"
    action["scheme"] = action.get("scheme") or "HTTP"


def _field_refs(holders: list[dict[str, Any]], inside: str = "") -> None:
    for holder in holders:
        source = (holder.get(inside) or {}) if inside else holder
        ref = source.get("fieldRef")
        if ref is not None:
            ref["apiVersion"] = ref.get("apiVersion") or "v1"


def _probe(probe: dict[str, Any]) -> None:
    for field, value in (
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ):
        probe[field] = probe.get(field) or value
    if probe.get("httpGet") is not None:
        _http_get(probe["httpGet"])
    if probe.get("grpc") is not None:
        probe["grpc"].setdefault("service", "")


def _container(container: dict[str, Any]) -> None:
    container["imagePullPolicy"] = container.get("imagePullPolicy") or pull_policy(
        container.get("image") or ""
    )
    container["terminationMessagePath"] = container.get("terminationMessagePath") or "/dev/termination-log"
    container["terminationMessagePolicy"] = container.get("terminationMessagePolicy") or "File"
    container.setdefault("resources", {})
    for port in container.get("ports") or ():
        port["protocol"] = port.get("protocol") or "TCP"
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(name) is not None:
            _probe(container[name])
    for handler in (container.get("lifecycle") or {}).values():
        if isinstance(handler, dict) and handler.get("httpGet") is not None:
            _http_get(handler["httpGet"])
    _field_refs(container.get("env") or [], "valueFrom")


_SOURCE_DEFAULTS: dict[str, dict[str, Any]] = {
    "secret": {"defaultMode": DEFAULT_MODE},
    "configMap": {"defaultMode": DEFAULT_MODE},
    "downwardAPI": {"defaultMode": DEFAULT_MODE},
    "projected": {"defaultMode": DEFAULT_MODE},
    "hostPath": {"type": ""},
    "iscsi": {"iscsiInterface": "default"},
    "rbd": {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"},
    "azureDisk": {"cachingMode": "ReadWrite", "kind": "Shared", "fsType": "ext4", "readOnly": False},
    "scaleIO": {"storageMode": "ThinProvisioned", "fsType": "xfs"},
}


def volume_source(source: dict[str, Any]) -> None:
    """The defaults of what a volume (or a persistent volume's spec) is made of."""
    for kind, values in _SOURCE_DEFAULTS.items():
        found = source.get(kind)
        if found is not None:
            for field, value in values.items():
                found.setdefault(field, value)


def _volume(volume: dict[str, Any]) -> None:
    if not any(key != "name" for key in volume):
        volume["emptyDir"] = {}
    volume_source(volume)
    if volume.get("downwardAPI") is not None:
        _field_refs(volume["downwardAPI"].get("items") or [])
    for source in (volume.get("projected") or {}).get("sources") or ():
        token = source.get("serviceAccountToken")
        if token is not None:
            token["expirationSeconds"] = token.get("expirationSeconds") or 3600
        if source.get("downwardAPI") is not None:
            _field_refs(source["downwardAPI"].get("items") or [])
    claim = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
    if claim is not None:
        claim.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
    image = volume.get("image")
    if image is not None:
        image["pullPolicy"] = image.get("pullPolicy") or pull_policy(image.get("reference") or "")


def all_containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Init, app and ephemeral containers."""
    return [
        each
        for kind in ("initContainers", "containers", "ephemeralContainers")
        for each in spec.get(kind) or ()
    ]


def pod_spec(spec: dict[str, Any]) -> None:
    """The defaults a pod and a template share."""
    spec["restartPolicy"] = spec.get("restartPolicy") or "Always"
    spec["dnsPolicy"] = spec.get("dnsPolicy") or "ClusterFirst"
    spec["schedulerName"] = spec.get("schedulerName") or "default-scheduler"
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("securityContext", {})
    # An account's name has an older name, which is still read and written.
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for container in all_containers(spec):
        _container(container)
    for volume in spec.get("volumes") or ():
        _volume(volume)


def template(holder: dict[str, Any] | None) -> None:
    """The defaults of a pod template (``{"metadata": ..., "spec": ...}``)."""
    if holder is not None:
        pod_spec(holder.setdefault("spec", {}))


def _requests(resources: dict[str, Any]) -> None:
    limits = resources.get("limits")
    if limits:
        requests = resources.setdefault("requests", {})
        for name, value in limits.items():
            requests.setdefault(name, value)


def _addresses(status: dict[str, Any]) -> None:
    """``podIP`` is the first of ``podIPs``; whoever writes one of them means both."""
    first = (status.get("podIPs") or [{}])[0].get("ip")
    if first:
        status["podIP"] = first
    elif status.get("podIP"):
        status["podIPs"] = [{"ip": status["podIP"]}]


def pod(obj: dict[str, Any]) -> None:
    """The defaults of a pod."""
    if obj.get("status"):
        _addresses(obj["status"])
    spec = obj.setdefault("spec", {})
    pod_spec(spec)
    spec.setdefault("enableServiceLinks", True)
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind) or ():
            _requests(container["resources"])
    if spec.get("hostNetwork"):
        for container in all_containers(spec):
            for port in container.get("ports") or ():
                port["hostPort"] = port.get("hostPort") or port.get("containerPort", 0)

"""An operator written with kopf: every ``Website`` becomes a ConfigMap, a Deployment and a Service.

    kubectl apply -f crd.yaml
    kopf run operator.py --all-namespaces
    kubectl apply -f website.yaml
    kubectl get websites

What it makes belongs to the website, so the cluster's garbage collector takes it away with it. Before that, the finalizer that
kopf sets gives ``farewell`` the time to write down that the site has gone: the record outlives the site.
"""

from __future__ import annotations

from typing import Any

import kopf
from kubernetes import client, config

Object = dict[str, Any]
RECORD = "websites-that-were"


@kopf.on.startup()
def connect(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Log in as the kubeconfig (or the pod's service account) says; keep kopf's notes in the status, where a schema lets them be."""
    try:
        config.load_incluster_config()
    except config.ConfigException:
        config.load_kube_config()
    settings.persistence.finalizer = "examples.bamikube.io/farewell"


def parts(name: str, spec: Object) -> tuple[Object, Object, Object]:
    """The ConfigMap, the Deployment and the Service of a website. Pure."""
    labels = {"website": name}
    page = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"index.html": spec["page"]},
    }
    container = {
        "name": "nginx",
        "image": "nginx",
        "ports": [{"containerPort": 80}],
        "volumeMounts": [{"name": "page", "mountPath": "/usr/share/nginx/html"}],
    }
    pod = {"containers": [container], "volumes": [{"name": "page", "configMap": {"name": name}}]}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": spec["replicas"],
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": labels, "ports": [{"port": 80}]},
    }
    return page, deployment, service


@kopf.on.create("websites.examples.bamikube.io")
def build(name: str, namespace: str, spec: kopf.Spec, patch: kopf.Patch, **_: Any) -> None:
    page, deployment, service = parts(name, dict(spec))
    for each in (page, deployment, service):
        kopf.adopt(each)
    core = client.CoreV1Api()
    core.create_namespaced_config_map(namespace, page)
    core.create_namespaced_service(namespace, service)
    client.AppsV1Api().create_namespaced_deployment(namespace, deployment)
    patch.status["address"] = f"http://{name}.{namespace}.svc.cluster.local"
    patch.status["phase"] = "Built"


@kopf.on.field("websites.examples.bamikube.io", field="spec.replicas")
def resize(name: str, namespace: str, new: int, old: int | None, patch: kopf.Patch, **_: Any) -> None:
    patch.status["replicas"] = new
    if old is not None:  # at the beginning, build has done it
        client.AppsV1Api().patch_namespaced_deployment(name, namespace, {"spec": {"replicas": new}})


@kopf.on.delete("websites.examples.bamikube.io")
def farewell(name: str, namespace: str, **_: Any) -> None:
    core = client.CoreV1Api()
    try:
        core.patch_namespaced_config_map(RECORD, namespace, {"data": {name: "gone"}})
    except client.ApiException as error:
        if error.status != 404:
            raise
        core.create_namespaced_config_map(namespace, {"metadata": {"name": RECORD}, "data": {name: "gone"}})

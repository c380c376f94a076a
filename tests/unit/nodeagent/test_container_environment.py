"""Variables, references and what is missing."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from bamikube.nodeagent.container.env import (
    ConfigError,
    Sources,
    environment,
    expand,
    expand_whole,
    service_variables,
)

POD: dict[str, Any] = {
    "metadata": {"name": "web", "namespace": "default", "uid": "u", "labels": {"app": "web"}},
    "spec": {"nodeName": "n1", "serviceAccountName": "sa", "containers": []},
}


def sources(**objects: Any) -> Sources:
    known = {tuple(key.split("__")): value for key, value in objects.items()}
    return Sources(known, [], ("192.0.2.1",), ("10.0.0.5",), "n1", {"cpu": "2", "memory": "1Gi"})  # type: ignore[arg-type]


def test_references_see_what_stands_before_them() -> None:
    env = [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)-$(C)-$$(A)"},
        {"name": "C", "value": "2"},
    ]
    assert environment(POD, {"name": "c", "env": env}, sources()) == {"A": "1", "B": "1-$(C)-$(A)", "C": "2"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(X)", "y"),
        ("$$(X)", "$(X)"),
        ("$$$(X)", "$y"),
        ("$$$$(X)", "$$(X)"),
        ("$(NO)", "$(NO)"),
        ("$", "$"),
        ("a$(X)b$", "ayb$"),
        ("$($(X))", "$($(X))"),  # the name ends at the first bracket, and nothing is called that
        ("$(X", "$(X"),
        ("$()$X", "$()$X"),
    ],
)
def test_expansion(text: str, expected: str) -> None:
    assert expand(text, {"X": "y"}.get) == expected


def test_where_nothing_may_be_left_open_the_missing_are_named() -> None:
    assert expand_whole("a/$(X)", {"X": "y"}) == "a/y"
    with pytest.raises(ConfigError, match=r"^missing value for A, B$"):
        expand_whole("$(B)/$(A)/$(X)", {"X": "y", "A": ""})


def test_fields_and_resources() -> None:
    spec = {"name": "c", "resources": {"limits": {"cpu": "1500m"}}}
    env = [
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
    ]
    pod = POD | {"spec": POD["spec"] | {"containers": [spec]}}
    made = environment(pod, spec | {"env": env}, sources())
    assert made == {"IP": "10.0.0.5", "LABEL": "web", "CPU": "2", "MEM": "1024"}


def test_env_from_with_prefix_and_optional() -> None:
    secret = {"kind": "Secret", "data": {"k": base64.b64encode(b"v").decode()}}
    spec = {
        "name": "c",
        "envFrom": [
            {"prefix": "P_", "secretRef": {"name": "s"}},
            {"configMapRef": {"name": "gone", "optional": True}},
        ],
    }
    assert environment(POD, spec, sources(Secret__s=secret)) == {"P_k": "v"}


def test_missing_objects_and_keys_are_named() -> None:
    ref = {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}
    with pytest.raises(ConfigError, match='configmap "m" not found'):
        environment(POD, {"name": "c", "env": [ref]}, sources())
    with pytest.raises(ConfigError, match="couldn't find key k in ConfigMap default/m"):
        environment(POD, {"name": "c", "env": [ref]}, sources(ConfigMap__m={"data": {}}))


def test_service_variables_of_the_namespace_and_kubernetes_only() -> None:
    def service(own: str, namespace: str, address: str, **port: Any) -> dict[str, Any]:
        spec = {"clusterIP": address, "ports": [{"port": 80, "protocol": "TCP"} | port]}
        return {"metadata": {"name": own, "namespace": namespace}, "spec": spec}

    services = [
        service("my-web", "default", "10.96.1.1", name="http"),
        service("other", "elsewhere", "10.96.1.2"),
        service("kubernetes", "default", "10.96.0.1", port=443),
        service("headless", "default", "None"),
    ]
    made = service_variables(POD, services)
    assert made["MY_WEB_SERVICE_HOST"] == "10.96.1.1"
    assert made["MY_WEB_SERVICE_PORT_HTTP"] == "80"
    assert made["MY_WEB_PORT_80_TCP"] == "tcp://10.96.1.1:80"
    assert made["KUBERNETES_SERVICE_PORT"] == "443"
    assert not any(key.startswith(("OTHER", "HEADLESS")) for key in made)
    unlinked = POD | {"spec": POD["spec"] | {"enableServiceLinks": False}}
    assert {key.split("_")[0] for key in service_variables(unlinked, services)} == {"KUBERNETES"}

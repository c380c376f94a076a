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
    field,
    resource,
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


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ({"resource": "limits.cpu"}, "2"),  # 1250m, rounded up
        ({"resource": "limits.cpu", "divisor": "1m"}, "1250"),
        ({"resource": "limits.cpu", "divisor": "0"}, "2"),
        ({"resource": "requests.cpu", "divisor": "1m"}, "250"),
        ({"resource": "requests.memory"}, "33554432"),
        ({"resource": "requests.memory", "divisor": "1Gi"}, "1"),
        ({"resource": "limits.memory", "divisor": "1Mi"}, "1024"),  # the node's
        ({"resource": "limits.ephemeral-storage"}, "1000"),  # the node's
        ({"resource": "requests.ephemeral-storage"}, "0"),
        ({"resource": "limits.hugepages-2Mi", "divisor": "1Mi"}, "4"),
        ({"resource": "limits.hugepages-1Gi"}, "0"),
        ({"resource": "limits.cpu", "containerName": "first"}, "3"),
        ({"resource": "requests.cpu", "containerName": "first"}, "0"),
    ],
)
def test_resources_in_units_of_a_divisor(ref: dict[str, str], expected: str) -> None:
    spec = {
        "name": "c",
        "resources": {
            "limits": {"cpu": "1250m", "memory": "0", "hugepages-2Mi": "4Mi"},
            "requests": {"cpu": "250m", "memory": "32Mi"},
        },
    }
    first = {"name": "first", "resources": {"limits": {"cpu": "3"}}}
    pod = POD | {"spec": POD["spec"] | {"containers": [spec], "initContainers": [first]}}
    assert resource(pod, spec, ref, {"cpu": "8", "memory": "1Gi", "ephemeral-storage": "1k"}) == expected


def test_resources_of_a_pod_with_limits_of_its_own_and_those_nobody_has() -> None:
    pod = POD | {"spec": POD["spec"] | {"resources": {"limits": {"memory": "64Mi"}}}}
    assert resource(pod, {}, {"resource": "limits.memory"}, {"memory": "1Gi"}) == str(64 << 20)
    with pytest.raises(ConfigError, match="container gone not found"):
        resource(pod, {}, {"resource": "limits.cpu", "containerName": "gone"}, {})
    with pytest.raises(ConfigError, match=r"unsupported container resource : limits\.pods"):
        resource(pod, {}, {"resource": "limits.pods"}, {})


def test_fields_as_text() -> None:
    meta = POD["metadata"] | {
        "labels": {"b": "2", "a": "1"},
        "annotations": {"k": 'say "hi"\n\tto\x01 \u00e9\u200b\\', "example.com/x": "y"},
    }
    known = Sources({}, [], ("192.0.2.1", "2001:db8::1"), ("10.0.0.5", "fd00::5"), "n1", {})
    expected = {
        "metadata.labels": 'a="1"\nb="2"',
        "metadata.labels['a']": "1",
        "metadata.labels['none']": "",
        "metadata.annotations['example.com/x']": "y",
        "metadata.annotations": 'example.com/x="y"\nk="say \\"hi\\"\\n\\tto\\x01 \u00e9\\u200b\\\\"',
        "metadata.uid": "u",
        "spec.nodeName": "n1",
        "spec.serviceAccountName": "sa",
        "status.hostIP": "192.0.2.1",
        "status.hostIPs": "192.0.2.1,2001:db8::1",
        "status.podIP": "10.0.0.5",
        "status.podIPs": "10.0.0.5,fd00::5",
    }
    assert {path: field(POD | {"metadata": meta}, path, known) for path in expected} == expected
    with pytest.raises(ConfigError, match=r"unsupported fieldPath: spec\.hostname"):
        field(POD, "spec.hostname", known)


def test_env_wins_over_env_from_and_both_over_services() -> None:
    service = {"metadata": {"name": "web", "namespace": "default"}, "spec": {"clusterIP": "10.96.1.1"}}
    service["spec"]["ports"] = [{"port": 80}]
    known = sources(
        ConfigMap__first={"data": {"A": "1", "B": "1", "with-dash.and.dot": "kept"}},
        ConfigMap__second={"data": {"B": "2", "WEB_SERVICE_PORT": "8080"}},
    )
    known.services.append(service)
    spec = {
        "name": "c",
        "envFrom": [{"configMapRef": {"name": "first"}}, {"configMapRef": {"name": "second"}}],
        "env": [
            {"name": "SEEN", "value": "$(A)$(B)$(WEB_SERVICE_PORT)$(WEB_SERVICE_HOST)$(LATER)"},
            {"name": "A", "value": "own"},
            {"name": "LATER", "value": "$(A)"},
            {"name": "EMPTY", "value": ""},
        ],
    }
    made = environment(POD, spec, known)
    assert made["SEEN"] == "12808010.96.1.1$(LATER)"
    assert (made["A"], made["B"], made["LATER"], made["EMPTY"]) == ("own", "2", "own", "")
    assert made["with-dash.and.dot"] == "kept" and made["WEB_SERVICE_PORT"] == "8080"


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

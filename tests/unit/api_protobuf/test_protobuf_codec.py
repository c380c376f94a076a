"""Protobuf of built-in kinds: what a real kubectl sends, made bytes, round trips, hostile bytes.

``kubectl_bodies.json`` holds request bodies captured from kubectl 1.33 (``create deployment``, ``create quota`` ...).
"""

from __future__ import annotations

import base64
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bamikube.api import protobuf, table
from bamikube.api.schema import source
from bamikube.api.wire import table as wire
from bamikube.api.wire.encode import chunk, varint

BODIES = json.loads((Path(__file__).parent / "kubectl_bodies.json").read_text())


def body(path: str, at: int = 0) -> bytes:
    return base64.b64decode([one["body"] for one in BODIES if one["path"].endswith(path)][at])


def test_a_deployment_as_kubectl_sends_it() -> None:
    assert protobuf.decode(body("/deployments")) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [
                        {
                            "name": "nginx",
                            "image": "nginx",
                            "command": ["sleep", "1"],
                            "ports": [{"containerPort": 80}],
                            "resources": {},
                        }
                    ]
                },
            },
            "strategy": {},
        },
        "status": {},
    }


def test_fields_have_the_names_that_they_have_in_json() -> None:
    """For every message that some kind holds, against the definitions: a field by another name would be lost."""

    def names(message: str) -> set[str]:
        found: set[str] = set()
        for field in wire.fields(message):
            found |= names(field.type) if field.label == "inline" else {field.name}
        return found - {"apiVersion", "kind"}

    seen: set[str] = set()
    waiting = [wire.message_of(row.api_version, row.kind) for row in table.TABLE]
    while waiting:
        message = waiting.pop()
        if message is None or message in seen:
            continue
        seen.add(message)
        name = message.replace("k8s.io.", "io.k8s.", 1).replace("_", "-")
        properties = source.definition(name).get("properties") if name in source.definition_names() else None
        if properties:
            assert names(message) == properties.keys() - {"apiVersion", "kind"}, message
        waiting += [field.type for field in wire.fields(message) if "." in field.type]
    assert len(seen) > 400


def test_zeros_that_go_writes_and_does_not_mean() -> None:
    """Fields that are no pointers are always on the wire; a zero of theirs is no statement."""
    port = {"name": "http", "number": 0}
    ingress = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "i"},
        "spec": {"defaultBackend": {"service": {"name": "s", "port": port}}},
    }
    decoded = protobuf.decode(protobuf.encode(ingress))
    assert decoded["spec"]["defaultBackend"]["service"]["port"] == {"name": "http"}
    queuing = {"queues": 0, "handSize": 0, "queueLengthLimit": 0}
    limited = {"nominalConcurrencyShares": 0, "limitResponse": {"type": "Queue", "queuing": queuing}}
    level = {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "PriorityLevelConfiguration",
        "metadata": {"name": "p"},
        "spec": {"type": "Limited", "limited": limited},
    }
    decoded = protobuf.decode(protobuf.encode(level))
    assert decoded["spec"]["limited"] == {
        "nominalConcurrencyShares": 0,  # a pointer: none at all
        "limitResponse": {"type": "Queue", "queuing": {}},
    }


def test_other_bodies_of_kubectl() -> None:
    assert protobuf.decode(body("/configmaps"))["data"] == {"a": "b", "empty": ""}
    assert protobuf.decode(body("/secrets"))["data"] == {"p": "cQ=="}
    assert protobuf.decode(body("/resourcequotas"))["spec"] == {
        "hard": {"cpu": "1", "memory": "1536Mi", "pods": "2"}
    }
    assert protobuf.decode(body("/services"))["spec"]["ports"] == [
        {"name": "80-8080", "protocol": "TCP", "port": 80, "targetPort": 8080}
    ]
    assert protobuf.decode(body("/services", 1))["spec"]["clusterIP"] == "None"
    assert protobuf.decode(body("/poddisruptionbudgets"))["spec"]["maxUnavailable"] == "25%"
    assert protobuf.decode(body("/ingresses"))["spec"]["rules"][0]["http"]["paths"][0]["path"] == "/p"
    assert protobuf.decode(body("/priorityclasses"))["value"] == 0
    assert protobuf.decode(body("/token"))["kind"] == "TokenRequest"
    assert protobuf.decode(body("/rolebindings"))["subjects"][0]["name"] == "robot"


@pytest.mark.parametrize("one", BODIES, ids=lambda one: one["path"])
def test_bodies_survive_encoding(one: dict[str, str]) -> None:
    obj = protobuf.decode(base64.b64decode(one["body"]))
    assert protobuf.decode(protobuf.encode(obj)) == obj


POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "p",
        "creationTimestamp": "2026-01-02T03:04:05Z",
        "annotations": {"a": "ä"},
        "managedFields": [{"manager": "m", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:x": {}}}}],
    },
    "spec": {
        "containers": [
            {
                "name": "c",
                "livenessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 5},
                "env": [
                    {
                        "name": "E",
                        "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k", "optional": False}},
                    }
                ],
                "resources": {"limits": {"cpu": "500m"}, "requests": {"memory": "1Gi"}},
                "securityContext": {"runAsUser": 0, "privileged": False},
            }
        ],
        "volumes": [
            {"name": "v", "emptyDir": {}},
            {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}},
        ],
        "terminationGracePeriodSeconds": 0,
        "tolerations": [{"key": "k", "operator": "Exists", "tolerationSeconds": -1}],
    },
}


def test_a_pod_with_every_sort_of_field_round_trips() -> None:
    assert protobuf.decode(protobuf.encode(POD)) == POD


def test_special_messages_round_trip() -> None:
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "l"},
        "spec": {"renewTime": "2026-01-02T03:04:05.000006Z", "leaseDurationSeconds": 40},
    }
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "spec": {
            "group": "g",
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": False,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {
                                "a": {
                                    "type": "array",
                                    "items": {"type": "string", "default": [1, {"x": None}]},
                                },
                                "b": {
                                    "x-kubernetes-preserve-unknown-fields": True,
                                    "additionalProperties": False,
                                },
                            },
                        }
                    },
                }
            ],
        },
    }
    status = {
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "code": 404,
        "details": {"name": "x"},
    }
    revision = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "data": {"spec": {"x": [1]}},
        "revision": 3,
    }
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": "t"},
        "status": {"authenticated": True, "user": {"username": "u", "extra": {"k": ["a", "b"]}}},
    }
    for obj in (lease, crd, status, revision, review):
        again = protobuf.decode(protobuf.encode(obj))
        if obj is crd:
            again["spec"]["versions"][0].pop("deprecated", None)
        assert again == obj
    early = {**lease, "spec": {"renewTime": "0001-01-01T00:00:00.000000Z"}}
    assert protobuf.decode(protobuf.encode(early)) == early


def test_lists_and_watch_events() -> None:
    pod = {key: value for key, value in POD.items() if key not in ("apiVersion", "kind")}
    pods = {"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "7"}, "items": [pod]}
    assert protobuf.decode(protobuf.encode(pods)) == pods
    mixed = {"apiVersion": "v1", "kind": "List", "items": [POD]}
    assert protobuf.decode(protobuf.encode(mixed))["items"] == [POD]
    event = protobuf.watch_event("ADDED", POD)
    assert event.startswith(b"\x0a\x05ADDED\x12")
    assert event.endswith(protobuf.encode(POD))


def test_made_bytes() -> None:
    meta = chunk(1, chunk(1, b"v1") + chunk(2, b"Secret"))
    entry = chunk(1, b"k") + chunk(2, b"\0\xff")
    unknown_fields = chunk(900, b"later") + varint(901 << 3) + varint(5) + varint(902 << 3 | 5) + b"1234"
    secret = chunk(1, chunk(1, b"s")) + chunk(2, entry) + chunk(2, chunk(1, b"empty")) + unknown_fields
    assert protobuf.decode(b"k8s\0" + meta + chunk(2, secret)) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "data": {"k": "AP8=", "empty": ""},
    }
    json_inside = b"k8s\0" + meta + chunk(2, b'{"kind":"X"}') + chunk(4, b"application/json")
    assert protobuf.decode(json_inside) == {"kind": "X"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not start with k8s"),
        (b"{}", "does not start with k8s"),
        (b"k8s\0", "no protobuf message is known"),
        (b"k8s\0\x0a\xff", "ends inside a number"),
        (b"k8s\0\x0a\x05ab", "ends inside a field"),
        (b"k8s\0\x0b", "wire type 3"),
        (b"k8s\0\x02\x00", "field with the number 0"),
        (b"k8s\0" + chunk(1, chunk(1, b"\xff")), "not UTF-8"),
        (b"k8s\0" + chunk(1, chunk(1, b"v1") + chunk(2, b"Pod")) + chunk(3, b"gzip"), "encoded as gzip"),
        (b"k8s\0" + chunk(1, chunk(1, b"v1") + chunk(2, b"Pod")) + chunk(2, b"\x08\x01"), "has wire type 0"),
    ],
)
def test_malformed_bytes(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        protobuf.decode(data)


def test_what_cannot_be_encoded() -> None:
    assert protobuf.can_encode("apps/v1", "Deployment") and protobuf.can_encode("apps/v1", "DeleteOptions")
    assert not protobuf.can_encode("example.com/v1", "Widget")
    with pytest.raises(ValueError, match="no protobuf message is known"):
        protobuf.encode({"apiVersion": "example.com/v1", "kind": "Widget"})
    with pytest.raises(ValueError, match="replicas"):
        protobuf.encode({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": [1]}})


@settings(deadline=None)
@given(
    st.binary(),
    st.sampled_from(
        ["v1 Pod", "apps/v1 Deployment", "v1 List", "apiextensions.k8s.io/v1 CustomResourceDefinition"]
    ),
)
def test_any_bytes_are_an_object_or_a_value_error(raw: bytes, kind: str) -> None:
    api_version, _, name = kind.partition(" ")
    envelope = b"k8s\0" + chunk(1, chunk(1, api_version.encode()) + chunk(2, name.encode()))
    for data in (raw, b"k8s\0" + raw, envelope + chunk(2, raw)):
        with contextlib.suppress(ValueError):
            assert isinstance(protobuf.decode(data), dict)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(BODIES), st.data())
def test_damaged_bodies_are_an_object_or_a_value_error(one: dict[str, str], data: st.DataObject) -> None:
    damaged = bytearray(base64.b64decode(one["body"]))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(4, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(4, len(damaged)))
    with contextlib.suppress(ValueError):
        assert isinstance(protobuf.decode(bytes(damaged[:cut])), dict)


def test_deep_nesting_is_refused() -> None:
    schema = b""
    for _ in range(5000):  # JSONSchemaProps.not, a schema in a schema
        schema = chunk(28, schema)
    version = chunk(4, chunk(1, schema))
    crd = chunk(2, chunk(7, version))
    meta = chunk(1, chunk(1, b"apiextensions.k8s.io/v1") + chunk(2, b"CustomResourceDefinition"))
    with pytest.raises(ValueError, match="nested deeper"):
        protobuf.decode(b"k8s\0" + meta + chunk(2, crd))

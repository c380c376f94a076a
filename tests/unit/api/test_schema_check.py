"""Decoding as Go decodes: types, unknown fields, nulls, quantities and times."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from bamikube.api import schema, table
from bamikube.api.errors import ApiError
from bamikube.api.schema.compile import visitor

DEPLOYMENTS = table.by_name("deployments.apps")
PODS = table.by_name("pods")


def deployment(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


def test_every_definition_compiles() -> None:
    for name in schema.definition_names():
        assert callable(visitor(name))


def test_definitions_are_narrowed() -> None:
    pod = schema.definition("io.k8s.api.core.v1.PodSpec")
    assert pod["properties"]["volumes"]["type"] == "array"
    assert pod["properties"]["volumes"]["items"] == {"$ref": "#/definitions/io.k8s.api.core.v1.Volume"}
    assert "enum" not in schema.definition("io.k8s.api.core.v1.Pod")["properties"]["kind"]
    for each in schema.all_definitions().values():
        for field in each.get("properties", {}).values():
            assert isinstance(field.get("type", ""), str)
    port = schema.definition("io.k8s.apimachinery.pkg.util.intstr.IntOrString")
    assert port["format"] == "int-or-string"


def test_wrong_types_are_worded_as_go_words_them() -> None:
    with pytest.raises(ApiError) as caught:
        schema.ensure(DEPLOYMENTS, deployment(replicas="3"))
    assert caught.value.code == 400
    assert caught.value.message == (
        'Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct '
        "field DeploymentSpec.spec.replicas of type int32"
    )


def test_a_path_through_lists_names_the_field_not_the_element() -> None:
    template = {"spec": {"containers": [{"name": "a", "env": [{"name": "X", "value": 1}]}]}}
    report = schema.check(DEPLOYMENTS, deployment(template=template))
    assert report.errors[0].field == "spec.template.spec.containers[0].env[0].value"
    assert "EnvVar.spec.template.spec.containers.env.value of type string" in report.errors[0].message


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1, 1.5, True])
def test_int32_has_limits(number: Any) -> None:
    assert schema.check(DEPLOYMENTS, deployment(replicas=number)).errors


def test_unknown_fields_ignore_warn_strict() -> None:
    for validation, expected in (("Ignore", []), ("Warn", ['unknown field "spec.foo"'])):
        obj = deployment(foo=1)
        assert schema.ensure(DEPLOYMENTS, obj, validation) == expected
        assert "foo" not in obj["spec"]
    with pytest.raises(ApiError, match=r'strict decoding error: unknown field "spec\.foo"'):
        schema.ensure(DEPLOYMENTS, deployment(foo=1), "Strict")


def test_null_means_not_given() -> None:
    obj = deployment(template={"metadata": {"creationTimestamp": None, "labels": {"a": None}}, "spec": None})
    assert schema.check(DEPLOYMENTS, obj).errors == []
    assert obj["spec"]["template"] == {"metadata": {"labels": {"a": ""}}}


def test_quantities_and_times_become_canonical() -> None:
    limits = {"cpu": 1, "memory": "1024Mi", "ephemeral-storage": "0.5"}
    pod = {
        "metadata": {"name": "a", "deletionTimestamp": "2026-01-02T03:04:05.678+09:00"},
        "spec": {"containers": [{"name": "a", "resources": {"limits": limits}}]},
    }
    assert schema.check(PODS, pod).errors == []
    assert limits == {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "500m"}
    assert pod["metadata"]["deletionTimestamp"] == "2026-01-01T18:04:05Z"


def test_micro_times_keep_six_digits() -> None:
    lease = {"metadata": {"name": "a"}, "spec": {"renewTime": "2026-01-02T03:04:05Z"}}
    assert schema.check(table.by_name("leases.coordination.k8s.io"), lease).errors == []
    assert lease["spec"]["renewTime"] == "2026-01-02T03:04:05.000000Z"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("data", {"a": "%%%"}, "illegal base64 data at input byte 0"),
        ("data", [], "cannot unmarshal array into Go struct field Secret.data of type map[string][]uint8"),
    ],
)
def test_bytes(field: str, value: Any, message: str) -> None:
    report = schema.check(table.by_name("secrets"), {"metadata": {"name": "a"}, field: value})
    assert message in report.errors[0].message


def test_empty_lists_and_maps_are_not_there() -> None:
    """But structs are, lists that are always written, and what is in no list or map of the schema."""
    pod = {
        "metadata": {"name": "a", "labels": {}, "finalizers": []},
        "spec": {
            "nodeSelector": {},
            "containers": [{"name": "a", "env": [], "resources": {"limits": {}}, "securityContext": {}}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
    }
    assert not schema.check(PODS, pod).errors
    container = {"name": "a", "resources": {}, "securityContext": {}}
    assert pod["spec"] == {"containers": [container], "volumes": [{"name": "v", "emptyDir": {}}]}
    assert pod["metadata"] == {"name": "a"}
    for name, obj in [
        ("roles.rbac.authorization.k8s.io", {"rules": []}),
        ("endpointslices.discovery.k8s.io", {"addressType": "IPv4", "endpoints": [], "ports": []}),
        ("networkpolicies.networking.k8s.io", {"spec": {"podSelector": {}, "ingress": [{}]}}),
    ]:
        before = copy.deepcopy(obj)
        assert not schema.check(table.by_name(name), obj).errors and obj == before
    wrong = {"metadata": {"name": "a"}, "spec": {"containers": [], "nodeSelector": [], "volumes": {}}}
    assert len(schema.check(PODS, wrong).errors) == 2, "empty or not, a list is no map"


def test_bad_quantity_and_time() -> None:
    pod = {
        "metadata": {"name": "a", "creationTimestamp": "yesterday"},
        "spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": "lots"}}}]},
    }
    messages = [cause.message for cause in schema.check(PODS, pod).errors]
    assert any("quantities must match the regular expression" in each for each in messages)
    assert any("parsing time" in each for each in messages)


def test_merge_questions() -> None:
    containers = schema.property("io.k8s.api.core.v1.PodSpec", "containers")
    assert containers is not None
    assert (containers.patch_strategy, containers.patch_merge_key) == ("merge", "name")
    assert containers.items_ref == "io.k8s.api.core.v1.Container"
    ports = schema.property("io.k8s.api.core.v1.ServiceSpec", "ports")
    assert ports is not None and ports.list_map_keys == ("port", "protocol")
    assert schema.property("io.k8s.api.core.v1.PodSpec", "nothing") is None


def test_zeros_that_say_nothing_are_not_there() -> None:
    """Pointers and what is always written stay; of lists and maps nothing goes."""
    container = {
        "name": "a",
        "image": "",
        "tty": False,
        "ports": [{"containerPort": 80, "hostPort": 0, "name": ""}],
        "env": [{"name": "A", "value": ""}],
        "command": [""],
        "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": False, "subPath": ""}],
        "securityContext": {"privileged": False, "runAsUser": 0},
        "livenessProbe": {
            "grpc": {"port": 1, "service": ""},
            "periodSeconds": 0,
            "terminationGracePeriodSeconds": 0,
        },
    }
    pod = {
        "metadata": {"name": "a", "generateName": "", "labels": {"x": ""}, "generation": 0},
        "spec": {
            "nodeName": "",
            "hostNetwork": False,
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "runtimeClassName": "",
            "containers": [container],
            "volumes": [
                {"name": "h", "hostPath": {"path": "/", "type": ""}},
                {"name": "c", "csi": {"driver": "d", "readOnly": False}},
                {"name": "n", "nfs": {"server": "s", "path": "/", "readOnly": False}},
                {"name": "s", "secret": {"secretName": "s", "optional": False}},
            ],
        },
    }
    assert not schema.check(PODS, pod).errors
    assert pod["metadata"] == {"name": "a", "labels": {"x": ""}}
    assert pod["spec"] == {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "runtimeClassName": "",
        "containers": [
            {
                "name": "a",
                "ports": [{"containerPort": 80}],
                "env": [{"name": "A"}],
                "command": [""],
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                "securityContext": {"privileged": False, "runAsUser": 0},
                "livenessProbe": {"grpc": {"port": 1, "service": ""}, "terminationGracePeriodSeconds": 0},
            }
        ],
        "volumes": [
            {"name": "h", "hostPath": {"path": "/", "type": ""}},
            {"name": "c", "csi": {"driver": "d", "readOnly": False}},
            {"name": "n", "nfs": {"server": "s", "path": "/"}},
            {"name": "s", "secret": {"secretName": "s", "optional": False}},
        ],
    }
    scaled = deployment(replicas=0, paused=False, minReadySeconds=0, template={"spec": {"containers": []}})
    assert not schema.check(DEPLOYMENTS, scaled).errors
    assert scaled["spec"] == {"replicas": 0, "template": {"spec": {"containers": []}}}
    claim = {"metadata": {"name": "c"}, "spec": {"storageClassName": "", "volumeName": ""}}
    assert not schema.check(table.by_name("persistentvolumeclaims"), claim).errors
    assert claim["spec"] == {"storageClassName": ""}
    slices = {"addressType": "IPv4", "endpoints": [], "ports": [{"name": "", "port": 80}]}
    assert not schema.check(table.by_name("endpointslices.discovery.k8s.io"), slices).errors
    assert slices["ports"] == [{"name": "", "port": 80}]

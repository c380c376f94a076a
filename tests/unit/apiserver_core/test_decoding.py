"""Bodies that are no objects, and objects of the wrong kind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bamikube.api import protobuf, table
from bamikube.api.errors import ApiError
from bamikube.api.kinds import expect_kind
from bamikube.apiserver.decoding import decode_body
from bamikube.kit.http import Request

MAPS = table.by_name("configmaps")
PARSE = "couldn't get version/kind; json parse error: "
JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"


def decoded(body: bytes, media: str = JSON) -> dict[str, Any]:
    return decode_body(Request("POST", "/", headers={"content-type": media}, body=body), "ConfigMap")


@pytest.mark.parametrize(
    ("media", "body", "words"),
    [
        (JSON, b"", f"{PARSE}unexpected end of JSON input (<empty>)"),
        (JSON, b"xyz", f"{PARSE}invalid character 'x' looking for beginning of value (78797a)"),
        (JSON, b'{"a" ' + b" " * 40 + b"}", f"{PARSE}invalid character '}}' after object key ({{\"a\" {' ' * 25} ...)"),
        (JSON, b"[]", PARSE + "json: cannot unmarshal array into Go value of type struct { APIVersion string "),
        (JSON, b'{"kind":5}', PARSE + 'json: cannot unmarshal number into Go struct field .kind of type string ({"kind":5})'),
        (JSON, b'{"apiVersion":"a/b/c"}', "unexpected GroupVersion string: a/b/c ({"),
        (YAML, b"a: b: c", "yaml: mapping values are not allowed in this context (613a20623a2063)"),
        (YAML, b"a: 1\nb: c: d", "yaml: line 2: mapping values are not allowed in this context (613a20"),
        (YAML, b"a\x00", "yaml: "),
        (YAML, b"- 1", PARSE + "json: cannot unmarshal array into Go value of type struct"),
        (PROTOBUF, b"", "empty data (<empty>)"),
        (PROTOBUF, b"{}", "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0] ({})"),
        (PROTOBUF, b"k8s\0", "empty body (6b387300)"),
    ],
)  # fmt: skip
def test_bodies_nobody_recognizes(media: str, body: bytes, words: str) -> None:
    with pytest.raises(ApiError) as caught:
        decoded(body, media)
    start = "the object provided is unrecognized (must be of type ConfigMap): "
    assert caught.value.code == 400 and caught.value.message.startswith(start + words)


def test_a_protobuf_of_an_unknown_kind() -> None:
    body = protobuf.encode({"apiVersion": "v1", "kind": "ConfigMap"}).replace(b"ConfigMap", b"ConfigMop")
    with pytest.raises(ApiError, match='ConfigMop in version "v1" cannot be handled as a ConfigMap: no kind'):
        decoded(body, PROTOBUF)


@pytest.mark.parametrize(
    ("resource", "version", "kind", "words"),
    [
        ("configmaps", "v1", "Foo", 'Foo in version "v1" cannot be handled as a ConfigMap: no kind "Foo" is registered for version "v1" in scheme "pkg/api/legacyscheme/scheme.go:30"'),
        ("configmaps", "apps/v9", "", 'ConfigMap in version "v9" cannot be handled as a ConfigMap: no kind "ConfigMap" is registered for version "apps/v9" in scheme "pkg/api/legacyscheme/scheme.go:30"'),
        ("configmaps", "", "Pod", 'Pod in version "v1" cannot be handled as a ConfigMap: converting (v1.Pod) to (core.ConfigMap): unknown conversion'),
        ("configmaps", "v1", "ConfigMapList", 'ConfigMapList in version "v1" cannot be handled as a ConfigMap: converting (v1.ConfigMapList) to (core.ConfigMap): unknown conversion'),
        ("roles.rbac.authorization.k8s.io", "v1", "Pod", "converting (v1.Pod) to (rbac.Role): unknown conversion"),
        ("events.events.k8s.io", "v1", "Event", "the API version in the data (v1) does not match the expected API version (events.k8s.io/v1)"),
        ("horizontalpodautoscalers.autoscaling", "autoscaling/v1", "", "the API version in the data (autoscaling/v1) does not match the expected API version (autoscaling/v2)"),
    ],
)  # fmt: skip
def test_objects_of_the_wrong_kind(resource: str, version: str, kind: str, words: str) -> None:
    with pytest.raises(ApiError) as caught:
        expect_kind(table.by_name(resource), {"apiVersion": version, "kind": kind})
    assert caught.value.code == 400 and caught.value.message.endswith(words)


def test_what_a_built_in_object_leaves_out_is_filled_in() -> None:
    obj: dict[str, Any] = {}
    expect_kind(MAPS, obj)
    assert obj == {"apiVersion": "v1", "kind": "ConfigMap"}


@pytest.mark.parametrize(
    ("obj", "code", "words"),
    [
        ({"kind": "Crontab", "apiVersion": "v2"}, 400, "the API version in the data (v2) does not match the expected API version (v1)"),
        ({"kind": "Foo", "apiVersion": "v1", "metadata": {"name": "x"}}, 422, 'ConfigMap "x" is invalid: kind: Invalid value: "Foo": must be ConfigMap'),
    ],
)  # fmt: skip
def test_custom_objects_of_the_wrong_kind(obj: dict[str, Any], code: int, words: str) -> None:
    custom: Any = object()
    with pytest.raises(ApiError) as caught:
        expect_kind(replace(MAPS, custom=custom), obj)
    assert (caught.value.code, caught.value.message) == (code, words)

"""What is always written, whether anybody said it or not."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from bamikube.api import protobuf, schema, table
from bamikube.api.schema.source import definition, definition_names
from bamikube.api.schema.written import WRITTEN, fill

CORE = "io.k8s.api.core.v1"


def filled(name: str, obj: dict[str, Any]) -> dict[str, Any]:
    fill(name, obj)
    return obj


def test_every_row_names_fields_that_exist() -> None:
    known = {".".join(name.rsplit(".", 3)[-3:]): name for name in definition_names()}
    for struct, fields in WRITTEN.items():
        properties = definition(known[struct])["properties"]
        assert fields.keys() <= properties.keys(), struct
        for field, zero in fields.items():
            if type(zero) is list:
                assert properties[field]["type"] == "array", (struct, field)
            if type(zero) is dict:
                assert "$ref" in properties[field], (struct, field)


@pytest.mark.parametrize(
    ("name", "given", "wanted"),
    [
        ("Container", {"name": "c"}, {"name": "c", "resources": {}}),
        ("Container", {"resources": {"limits": {"cpu": "1"}}}, {"resources": {"limits": {"cpu": "1"}}}),
        (
            "Pod",
            {"status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"}]}},
            {
                "spec": {},
                "status": {
                    "conditions": [
                        {"type": "Ready", "status": "True", "lastProbeTime": None, "lastTransitionTime": "2026-01-02T03:04:05Z"}
                    ]
                },
            },
        ),
        (
            "ContainerStatus",
            {"name": "c", "state": {"running": {}}},
            {
                "name": "c", "state": {"running": {"startedAt": None}}, "lastState": {}, "ready": False, "restartCount": 0,
                "image": "", "imageID": "",
            },
        ),
        (
            "PodSpec",
            {"volumes": [{"name": "v", "downwardAPI": {"items": [{"path": "p", "resourceFieldRef": {"resource": "limits.cpu"}}]}}]},
            {"volumes": [{"name": "v", "downwardAPI": {"items": [{"path": "p", "resourceFieldRef": {"resource": "limits.cpu", "divisor": "0"}}]}}]},
        ),
        ("Service", {}, {"spec": {}, "status": {"loadBalancer": {}}}),
        ("LimitRange", {"spec": None}, {"spec": None}),
    ],
)  # fmt: skip
def test_what_is_missing_is_filled_in(name: str, given: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert filled(f"{CORE}.{name}", given) == wanted


def test_zeros_are_not_shared() -> None:
    one, other = filled(f"{CORE}.LimitRange", {}), filled(f"{CORE}.LimitRange", {})
    one["spec"]["limits"].append({})
    assert other == {"spec": {"limits": []}}


@pytest.mark.parametrize("row", table.TABLE, ids=lambda row: f"{row.api_version}/{row.kind}")
def test_what_is_written_can_be_read_again(row: Any) -> None:
    """A body with all of it, as a client sends it back: the nulls go, and come again; protobuf can say it, too."""
    obj = {"apiVersion": row.api_version, "kind": row.kind, "metadata": {"name": "x"}}
    fill(row.definition, obj)
    once = copy.deepcopy(obj)
    report = schema.check(row, obj)
    assert (report.errors, report.unknown) == ([], [])
    fill(row.definition, obj)
    assert obj == once
    if protobuf.can_encode(row.api_version, row.kind):
        assert protobuf.decode(protobuf.encode(obj))["kind"] == row.kind

"""Defaults against golden pairs (``tests/golden/api/defaults/NAME.{input,output}.yaml``), and their laws."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from bamikube.api import defaults, schema, table

GOLDEN = Path(__file__).parents[2] / "golden" / "api" / "defaults"
CASES = sorted(path.name.removesuffix(".input.yaml") for path in GOLDEN.glob("*.input.yaml"))


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((GOLDEN / name).read_text())
    return loaded


def applied(obj: dict[str, Any]) -> dict[str, Any]:
    resource = table.by_kind(obj["apiVersion"], obj["kind"])
    assert resource is not None
    schema.ensure(resource, obj, "Strict")
    defaults.apply(resource, obj)
    return obj


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    assert applied(load(f"{case}.input.yaml")) == load(f"{case}.output.yaml")


@pytest.mark.parametrize("case", CASES)
def test_twice_is_once(case: str) -> None:
    once = applied(load(f"{case}.input.yaml"))
    assert applied(copy.deepcopy(once)) == once


@pytest.mark.parametrize("row", table.TABLE, ids=lambda row: f"{row.api_version}/{row.kind}")
def test_empty_objects_survive_and_what_is_filled_in_fits_the_schema(row: Any) -> None:
    obj = {"apiVersion": row.api_version, "kind": row.kind, "metadata": {"name": "x"}}
    defaults.apply(row, obj)
    report = schema.check(row, copy.deepcopy(obj))
    assert (report.errors, report.unknown) == ([], [])
    once = copy.deepcopy(obj)
    defaults.apply(row, obj)
    assert obj == once


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.27", "IfNotPresent"),
        ("localhost:5000/nginx", "Always"),
        ("nginx@sha256:0123", "IfNotPresent"),
    ],
)
def test_pull_policy_follows_the_tag(image: str, policy: str) -> None:
    pod = applied(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "a"},
            "spec": {"containers": [{"name": "a", "image": image}]},
        }
    )
    assert pod["spec"]["containers"][0]["imagePullPolicy"] == policy


@pytest.mark.parametrize("status", [{"podIP": "10.244.1.7"}, {"podIPs": [{"ip": "10.244.1.7"}]}])
def test_a_pods_address_and_its_list_mean_the_same(status: dict[str, Any]) -> None:
    pod = applied({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "status": status})
    assert pod["status"] == {"podIP": "10.244.1.7", "podIPs": [{"ip": "10.244.1.7"}]}


@pytest.mark.parametrize("spec", [{"podCIDR": "10.244.1.0/24"}, {"podCIDRs": ["10.244.1.0/24"]}])
def test_a_nodes_range_and_its_list_mean_the_same(spec: dict[str, Any]) -> None:
    node = applied({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}, "spec": spec})
    assert node["spec"] == {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]}

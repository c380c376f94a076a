"""One line a rule: what is wrong with classes, claims and slices of devices, in Kubernetes' words."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from bamikube.api import defaults, schema, strategy, table, validation
from bamikube.api.resources import Resource

UNION = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
REFERENCE = (
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
)


def resource(plural: str) -> Resource:
    (found,) = (row for row in table.TABLE if row.key == ("resource.k8s.io", plural))
    return found


def faults(plural: str, spec: dict[str, Any]) -> list[str]:
    obj = {"metadata": {"name": "x", "uid": "1"}, "spec": copy.deepcopy(spec)}
    row = resource(plural)
    obj |= {"apiVersion": row.api_version, "kind": row.kind}
    if row.namespaced:
        obj["metadata"]["namespace"] = "default"  # type: ignore[index]
    schema.ensure(row, obj, "Strict")
    defaults.apply(row, obj)
    strategy.prepare_create(row, obj)
    return [f"{cause.field}: {cause.message}" for cause in validation.validate_create(row, obj)]


def chosen(expression: str) -> list[str]:
    return faults("deviceclasses", {"selectors": [{"cel": {"expression": expression}}]})


@pytest.mark.parametrize(
    "expression",
    [
        'device.driver == "gpu.x"',
        'device.attributes["gpu.x"].fast && device.attributes["gpu.x"].memory > 3',
        'device.attributes["gpu.x"].version.isGreaterThan(semver("1.0.0"))',
        'device.capacity["gpu.x"].memory.compareTo(quantity("1Gi")) >= 0',
        'cel.bind(gpu, device.attributes["gpu.x"], gpu.fast && gpu.large)',
        'device.attributes["gpu.x"].fast',
    ],
)
def test_expressions_that_choose_devices(expression: str) -> None:
    assert chosen(expression) == []


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("device.driver ==", "compilation failed: ERROR: <input>:1:17: Syntax error: "),
        ("device.nope", "compilation failed: ERROR: <input>:1:7: undefined field 'nope'"),
        ("object.x", "compilation failed: ERROR: <input>:1:1: undeclared reference to 'object'"),
        ("device.driver", "must evaluate to bool or the unknown type, not string"),
    ],
)
def test_expressions_that_are_refused(expression: str, why: str) -> None:
    (said,) = chosen(expression)
    assert said.startswith(f'spec.selectors[0].cel.expression: Invalid value: "{expression}": {why}')


def test_expressions_that_cost_too_much_or_are_too_long() -> None:
    dear = "true"
    for name in "abcdef":
        dear = f"device.attributes.exists({name}, {name} == device.driver && {dear})"
    assert chosen(dear) == ["spec.selectors[0].cel.expression: Forbidden: too complex, exceeds cost limit"]
    long = 'device.driver == "' + "x" * 10_240 + '"'
    assert chosen(long) == ["spec.selectors[0].cel.expression: Too long: may not be more than 10240 bytes"]


def test_selectors_of_a_claim_are_judged_too() -> None:
    exactly = {"deviceClassName": "gpu", "selectors": [{"cel": {"expression": "1"}}]}
    (said,) = faults("resourceclaims", {"devices": {"requests": [{"name": "r", "exactly": exactly}]}})
    assert said.startswith("spec.devices.requests[0].exactly.selectors[0].cel.expression: Invalid value")


def allocated(result: dict[str, Any], **more: Any) -> list[str]:
    requests = [
        {"name": "one", "exactly": {"deviceClassName": "gpu"}},
        {"name": "any", "firstAvailable": [{"name": "big", "deviceClassName": "gpu"}]},
    ]
    old = {"metadata": {"name": "x", "uid": "1"}, "spec": {"devices": {"requests": requests}}}
    base = {"request": "one", "driver": "gpu.x", "pool": "node/1", "device": "d"}
    status = {"allocation": {"devices": {"results": [base | result]}}} | more
    causes = validation.validate_status_update(resource("resourceclaims"), old | {"status": status}, old)
    return [f"{cause.field}: {cause.message}" for cause in causes]


def test_what_is_allocated() -> None:
    path = "status.allocation.devices.results[0]"
    assert allocated({}) == []
    assert allocated({"request": "any/big"}) == []
    assert allocated({"request": "any/small"}) == [f'{path}.request: Invalid value: "any/small": {REFERENCE}']
    assert allocated({"driver": "", "pool": "", "device": ""}) == [
        f"{path}.{name}: Required value" for name in ("driver", "pool", "device")
    ]
    assert allocated({"pool": "a/B"})[0].startswith(f'{path}.pool: Invalid value: "B": a lowercase RFC 1123')
    free = allocated({}, allocation=None, reservedFor=[{"resource": "pods", "name": "p", "uid": "1"}])
    assert free == ["status.reservedFor: Forbidden: may not be specified when `allocated` is not set"]


SLICE = {
    "driver": "gpu.x",
    "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
    "nodeName": "n",
}


def device(**more: Any) -> dict[str, Any]:
    return SLICE | {"devices": [{"name": "d"} | more]}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (SLICE, ""),
        (
            SLICE | {"allNodes": True},
            f'spec: Invalid value: "{{`nodeName`, `allNodes`}}": {UNION}, but multiple',
        ),
        ({**SLICE, "nodeName": None}, f"spec: Required value: {UNION}"),
        (
            SLICE | {"allNodes": False},
            "spec.allNodes: Invalid value: false: must be either unset or set to true",
        ),
        (
            {**SLICE, "nodeName": None, "nodeSelector": {"nodeSelectorTerms": []}},
            "spec.nodeSelector.nodeSelectorTerms: Invalid value: []: must have exactly one node selector term",
        ),
        (device(attributes={"gpu.x/memory": {"int": 1}, "ok": {"version": "1.0.0-rc.1"}}), ""),
        (
            device(attributes={"a-b": {"int": 1}}),
            'spec.devices[0].attributes: Invalid value: "a-b": a valid C',
        ),
        (
            device(attributes={"a": {"version": "v1"}}),
            'spec.devices[0].attributes[a].version: Invalid value: "v1": must be a string compatible with semver.org',
        ),
        (
            device(attributes={"a": {}}),
            'spec.devices[0].attributes[a]: Invalid value: "": exactly one value must be specified',
        ),
        (
            device(attributes={"a": {"int": 1, "bool": True}}),
            'spec.devices[0].attributes[a]: Invalid value: {"int":1,"bool":true}: exactly one value',
        ),
        (
            device(attributes={"a": {"string": "x" * 65}}),
            "spec.devices[0].attributes[a].string: Too long: may not be more than 64 bytes",
        ),
        (
            device(attributes={f"a{each}": {"int": 1} for each in range(33)}),
            "spec.devices[0]: Invalid value: 33: the total number of attributes and capacities must not exceed 32",
        ),
    ],
)
def test_slices(spec: dict[str, Any], said: str) -> None:
    found = faults("resourceslices", {key: value for key, value in spec.items() if value is not None})
    assert found[0].startswith(said) if said else not found, found

"""How families, policy and addresses of a service are settled, in clusters of one family and of two."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from bamikube.apiserver.allocators.families import settle

Spec = dict[str, Any]

V4, V6, BOTH, SIX_FIRST = ("IPv4",), ("IPv6",), ("IPv4", "IPv6"), ("IPv6", "IPv4")
HEADLESS: Spec = {"clusterIP": "None", "clusterIPs": ["None"]}
WITH_SELECTOR: Spec = {**HEADLESS, "selector": {"a": "b"}}
MULTIPLE = "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple"


def spec(**fields: Any) -> Spec:
    return {"type": "ClusterIP", "selector": {"a": "b"}, **fields}


def ips(*addresses: str) -> Spec:
    return {"clusterIP": addresses[0], "clusterIPs": list(addresses)}


@pytest.mark.parametrize(
    ("given", "cluster", "policy", "families"),
    [
        (spec(), V4, "SingleStack", ["IPv4"]),
        (spec(), SIX_FIRST, "SingleStack", ["IPv6"]),
        (spec(ipFamilyPolicy="PreferDualStack"), V4, "PreferDualStack", ["IPv4"]),
        (spec(ipFamilyPolicy="PreferDualStack"), BOTH, "PreferDualStack", ["IPv4", "IPv6"]),
        (spec(ipFamilyPolicy="PreferDualStack", ipFamilies=["IPv6"]), BOTH, "PreferDualStack", ["IPv6", "IPv4"]),
        (spec(ipFamilyPolicy="RequireDualStack"), SIX_FIRST, "RequireDualStack", ["IPv6", "IPv4"]),
        (spec(ipFamilies=["IPv6"]), BOTH, "SingleStack", ["IPv6"]),
        (spec(**ips("fd00::5")), BOTH, "SingleStack", ["IPv6"]),
        (spec(**ips("fd00::5", "10.0.0.5"), ipFamilyPolicy="PreferDualStack"), BOTH, "PreferDualStack", ["IPv6", "IPv4"]),
        # Headless ones get no addresses; without a selector both families, whatever the cluster has.
        (spec(**WITH_SELECTOR), BOTH, "SingleStack", ["IPv4"]),
        ({"type": "ClusterIP", **HEADLESS}, V4, "RequireDualStack", ["IPv4", "IPv6"]),
        ({"type": "ClusterIP", **HEADLESS}, V6, "RequireDualStack", ["IPv6", "IPv4"]),
        ({"type": "ClusterIP", **HEADLESS, "ipFamilyPolicy": "SingleStack"}, V4, "SingleStack", ["IPv4"]),
        ({"type": "ClusterIP", **HEADLESS, "ipFamilies": ["IPv6"]}, V4, "RequireDualStack", ["IPv6", "IPv4"]),
    ],
)  # fmt: skip
def test_new_services(given: Spec, cluster: tuple[str, ...], policy: str, families: list[str]) -> None:
    assert settle(given, None, cluster) == []
    assert (given["ipFamilyPolicy"], given["ipFamilies"]) == (policy, families)


def test_a_name_has_no_family() -> None:
    given: Spec = {"type": "ExternalName", "externalName": "a.b"}
    assert settle(given, None, BOTH) == [] and "ipFamilies" not in given and "ipFamilyPolicy" not in given


@pytest.mark.parametrize(
    ("given", "cluster", "faults"),
    [
        (
            spec(ipFamilyPolicy="RequireDualStack"),
            V4,
            ['spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services'],
        ),
        (
            spec(ipFamilyPolicy="RequireDualStack", ipFamilies=["IPv4", "IPv6"]),
            V4,
            [
                'spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services',
                'spec.ipFamilies[1]: Invalid value: "IPv6": not configured on this cluster',
            ],
        ),
        (spec(ipFamilies=["IPv6"]), V4, ['spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster']),
        (
            spec(**ips("fd00::5")),
            V4,
            ['spec.clusterIPs[0]: Invalid value: ["fd00::5"]: IPv6 is not configured on this cluster'],
        ),
        (
            spec(**ips("10.0.0.5", "fd00::5")),
            BOTH,
            [f"{MULTIPLE} cluster IPs are specified"],
        ),
        (spec(ipFamilies=["IPv4", "IPv6"]), BOTH, [f"{MULTIPLE} IP families are specified"]),
        (
            spec(ipFamilies=["IPv4", "IPv4"], ipFamilyPolicy="Both"),
            BOTH,
            [
                'spec.ipFamilies[1]: Duplicate value: "IPv4"',
                'spec.ipFamilyPolicy: Unsupported value: "Both": supported values: "PreferDualStack", "RequireDualStack", '
                '"SingleStack"',
            ],
        ),
        (
            spec(**ips("10.0.0.5"), ipFamilies=["IPv6"]),
            BOTH,
            ['spec.clusterIPs[0]: Invalid value: "10.0.0.5": expected an IPv6 value as indicated by `ipFamilies[0]`'],
        ),
        (
            spec(clusterIPs=["10.0.0.5"]),
            BOTH,
            ['spec.clusterIPs: Invalid value: ["10.0.0.5"]: must be empty when `clusterIP` is not specified'],
        ),
        (
            spec(clusterIP="10.0.0.6", clusterIPs=["10.0.0.5"]),
            BOTH,
            ['spec.clusterIPs: Invalid value: ["10.0.0.5"]: first value must match `clusterIP`'],
        ),
        (
            spec(**ips("10.0.0.5", "10.0.0.6"), ipFamilyPolicy="PreferDualStack"),
            BOTH,
            [
                'spec.clusterIPs: Invalid value: ["10.0.0.5","10.0.0.6"]: may specify no more than one IP for each IP '
                "family"
            ],
        ),
        (
            spec(**ips("None", "10.0.0.6"), ipFamilyPolicy="PreferDualStack"),
            BOTH,
            ['spec.clusterIPs: Invalid value: ["None","10.0.0.6"]: \'None\' must be the first and only value'],
        ),
        (
            spec(**ips("10.0.0.256")),
            BOTH,
            ['spec.clusterIPs[0]: Invalid value: "10.0.0.256": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'],
        ),
    ],
)  # fmt: skip
def test_what_is_refused(given: Spec, cluster: tuple[str, ...], faults: list[str]) -> None:
    assert [f"{cause.field}: {cause.message}" for cause in settle(given, None, cluster)] == faults


SINGLE = spec(**ips("10.0.0.5"), ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")
DUAL = spec(**ips("10.0.0.5", "fd00::5"), ipFamilies=["IPv4", "IPv6"], ipFamilyPolicy="RequireDualStack")
PREFERS = {**SINGLE, "ipFamilyPolicy": "PreferDualStack"}


@pytest.mark.parametrize(
    ("old", "change", "families", "addresses"),
    [
        (SINGLE, {"ipFamilyPolicy": "PreferDualStack"}, ["IPv4", "IPv6"], ["10.0.0.5"]),
        (SINGLE, {"ipFamilyPolicy": None}, ["IPv4"], ["10.0.0.5"]),
        (DUAL, {"ipFamilyPolicy": None}, ["IPv4", "IPv6"], ["10.0.0.5", "fd00::5"]),
        (DUAL, {"ipFamilyPolicy": "SingleStack"}, ["IPv4"], ["10.0.0.5"]),
        (DUAL, {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"]}, ["IPv4"], ["10.0.0.5"]),
        # One that prefers two and has one keeps one until somebody asks for more.
        (PREFERS, {"selector": {"c": "d"}}, ["IPv4"], ["10.0.0.5"]),
        (PREFERS, {"ipFamilyPolicy": "RequireDualStack"}, ["IPv4", "IPv6"], ["10.0.0.5"]),
        (PREFERS, {"type": "NodePort"}, ["IPv4", "IPv6"], ["10.0.0.5"]),
    ],
)
def test_updates(old: Spec, change: Spec, families: list[str], addresses: list[str]) -> None:
    new = {key: value for key, value in {**copy.deepcopy(old), **change}.items() if value is not None}
    assert settle(new, old, BOTH) == []
    assert (new["ipFamilies"], new["clusterIPs"]) == (families, addresses)


def test_a_second_address_goes_only_with_the_policy() -> None:
    less: Spec = {**DUAL, "clusterIPs": ["10.0.0.5"], "ipFamilies": ["IPv4"]}
    assert [f"{cause.field}: {cause.message}" for cause in settle(less, DUAL, BOTH)] == [
        f"spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary {what}"
        for what in ("cluster IP", "IP family")
    ]

"""When a range of service addresses is protected, ready, held and let go."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from bamikube.api.predicates.servicecidrs import FINALIZER, gives
from bamikube.api.times import seconds
from bamikube.controllers.servicecidr import IS_HELD, IS_READY, held_addresses, plan

Object = dict[str, Any]
GONE_AT = "2026-01-01T00:00:00Z"


def cidr(name: str, *ranges: str, going: bool = False, finalizers: tuple[str, ...] = (FINALIZER,)) -> Object:
    metadata: Object = {"name": name, "finalizers": list(finalizers)}
    if going:
        metadata["deletionTimestamp"] = GONE_AT
    return {"metadata": metadata, "spec": {"cidrs": list(ranges)}}


def addresses(*texts: str) -> list[Any]:
    return [ipaddress.ip_address(text) for text in texts]


def test_a_new_range_is_protected_and_called_ready() -> None:
    new = cidr("a", "10.0.0.0/24", finalizers=())
    decided = plan(new, [new], [], 0.0)
    assert decided.finalizers == {"finalizers": [FINALIZER]} and decided.condition is IS_READY
    done = cidr("a", "10.0.0.0/24") | {
        "status": {"conditions": [{**IS_READY, "lastTransitionTime": GONE_AT}]}
    }
    decided = plan(done, [done], [], 0.0)
    assert decided.finalizers is None and decided.condition is None
    other_words = {**IS_READY, "message": "Kubernetes default Service CIDR is ready"}
    done["status"]["conditions"] = [other_words]
    assert plan(done, [done], [], 0.0).condition is IS_READY


@pytest.mark.parametrize(
    ("ranges", "others", "held", "reason"),
    [
        (["10.0.0.0/24"], [], [], "no service needs it"),
        (["10.0.0.0/24"], [], ["10.0.1.1", "fd00::1"], "no service needs it"),
        (["10.0.0.0/24"], [], ["10.0.0.9"], "only it can give 10.0.0.9"),
        (["10.0.0.0/24", "fd00::/112"], [], ["fd00::9"], "only it can give fd00::9"),
        (["10.0.0.0/24"], [cidr("b", "10.0.0.0/16")], ["10.0.0.9"], "no service needs it"),
        (["10.0.0.0/24"], [cidr("b", "10.0.0.0/24")], ["10.0.0.9"], "no service needs it"),
        # The other range goes as well, or cannot give that address: it is its broadcast address.
        (["10.0.0.0/24"], [cidr("b", "10.0.0.0/16", going=True)], ["10.0.0.9"], "only it can give 10.0.0.9"),
        (["10.0.0.0/24"], [cidr("b", "10.0.0.0/29")], ["10.0.0.7"], "only it can give 10.0.0.7"),
    ],
)
def test_what_holds_a_range(ranges: list[str], others: list[Object], held: list[str], reason: str) -> None:
    going = cidr("a", *ranges, going=True)
    decided = plan(going, [going, *others], addresses(*held), seconds(GONE_AT) + 11)
    assert decided.reason == reason
    if reason.startswith("only"):
        assert decided.condition is IS_HELD and decided.finalizers is None
    else:
        assert decided.finalizers == {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}


def test_it_waits_ten_seconds() -> None:
    going = cidr("a", "10.0.0.0/24", going=True)
    decided = plan(going, [going], [], seconds(GONE_AT) + 4)
    assert decided.finalizers is None and decided.again == pytest.approx(6.0)
    going["metadata"]["finalizers"] = ["mine"]
    assert plan(going, [going], [], seconds(GONE_AT) + 10).reason == "it goes without us"


def test_only_addresses_of_services_count() -> None:
    labels = {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}
    made: Object = {"metadata": {"name": "10.0.0.1", "labels": labels}}
    assert held_addresses([made, {"metadata": {"name": "10.0.0.2"}}]) == addresses("10.0.0.1")


def test_addresses_a_range_gives() -> None:
    def check(network: str, address: str) -> bool:
        return gives(ipaddress.ip_network(network), ipaddress.ip_address(address))

    assert check("10.0.0.0/29", "10.0.0.1") and check("10.0.0.0/29", "10.0.0.6")
    assert not check("10.0.0.0/29", "10.0.0.0") and not check("10.0.0.0/29", "10.0.0.7")
    assert check("fd00::/125", "fd00::7") and not check("fd00::/125", "fd00::")
    assert not check("10.0.0.0/29", "fd00::1") and not check("10.0.0.0/29", "10.0.0.9")

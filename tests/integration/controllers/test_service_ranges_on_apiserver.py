"""Ranges of service addresses on a real API server: protected, ready, held by addresses, let go."""

from __future__ import annotations

from typing import Any

import pytest

from bamikube.api.predicates.servicecidrs import FINALIZER
from bamikube.controllers import servicecidr
from tests.integration.controllers.conftest import ControlPlane

Object = dict[str, Any]

CIDRS = "servicecidrs.networking.k8s.io"
ADDRESSES = "ipaddresses.networking.k8s.io"


def range_of(name: str, *cidrs: str) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": name},
        "spec": {"cidrs": list(cidrs)},
    }


def address(name: str) -> Object:
    labels = {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {"name": name, "labels": labels},
        "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "web"}},
    }


async def ready(plane: ControlPlane, name: str) -> Object:
    found = (await plane.admin.get(CIDRS, name))["status"].get("conditions") or [{}]
    assert len(found) == 1
    return {key: value for key, value in found[0].items() if key != "lastTransitionTime"}


async def test_a_range_goes_when_no_address_needs_it(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servicecidr, "GRACE", 1.0)
    plane.controllers()

    async def says(name: str, message: str) -> bool:
        return (await ready(plane, name)).get("message") == message

    for name in ("kubernetes", "more"):
        if name == "more":
            await plane.admin.create(CIDRS, range_of(name, "10.200.0.0/24"))
        await plane.until(
            f"{name} is ready", lambda name=name: says(name, "Kubernetes Service CIDR is ready")
        )
        there = await plane.admin.get(CIDRS, name)
        assert there["metadata"]["finalizers"] == [FINALIZER]
        assert (await ready(plane, name)) == servicecidr.IS_READY

    await plane.admin.create(ADDRESSES, address("10.200.0.9"))
    await plane.admin.delete(CIDRS, "more")
    await plane.until("the address holds it", lambda: says("more", servicecidr.IS_HELD["message"]))
    assert (await ready(plane, "more")) == servicecidr.IS_HELD
    # A larger range takes the address over.
    await plane.admin.create(CIDRS, range_of("large", "10.200.0.0/16", "fd00:200::/112"))
    await plane.gone(CIDRS, "more")
    await plane.until("large is ready", lambda: says("large", "Kubernetes Service CIDR is ready"))
    await plane.admin.delete(CIDRS, "large")
    await plane.until("the address holds it", lambda: says("large", servicecidr.IS_HELD["message"]))
    await plane.admin.delete(ADDRESSES, "10.200.0.9")
    await plane.gone(CIDRS, "large")

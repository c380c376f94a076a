"""Which IP families a service gets, and how it asks for them: ``ipFamilies`` and ``ipFamilyPolicy`` settled.

Pure. The cluster's families are those of ``--service-cluster-ip-range``, the first one being what a service gets that
asks for none. What a person wrote is completed, never overruled; a policy that does not fit is refused.

Worked examples, in a cluster of IPv4 and IPv6::

    nothing said                      -> SingleStack, [IPv4]
    PreferDualStack                   -> PreferDualStack, [IPv4, IPv6]; in a cluster of IPv4 alone: [IPv4]
    clusterIPs [fd00::5]              -> SingleStack, [IPv6]
    headless, without a selector      -> RequireDualStack, [IPv4, IPv6], whatever the cluster has: its endpoints are
                                         written by somebody who may know addresses of either family
    two families, then SingleStack    -> the second one goes, with its address

A service with PreferDualStack that an update leaves as it is stays as it is, also when the cluster has changed.

Source: KEP-563 (dual-stack), Kubernetes' "IPv4/IPv6 dual-stack".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.predicates.services import (
    HEADLESS,
    WITH_CLUSTER_IP,
    needs_cluster_ip,
    other_family,
)
from bamikube.api.validation.rules import invalid
from bamikube.api.validation.services import cluster_ip_fields

Spec = dict[str, Any]

SINGLE, PREFER, REQUIRE = "SingleStack", "PreferDualStack", "RequireDualStack"
_POLICY = "spec.ipFamilyPolicy"


def settle(spec: Spec, old: Spec | None, cluster: Sequence[str]) -> list[Cause]:
    """Completes ``spec`` in place; returns what is wrong with it. ``old`` is the stored one of an update."""
    if not needs_cluster_ip(spec) or stays(spec, old):
        return []
    selectorless = spec.get("clusterIP") == HEADLESS and not spec.get("selector")
    if spec.get("ipFamilyPolicy") is None:
        kept = old.get("ipFamilyPolicy") if old is not None else None
        spec["ipFamilyPolicy"] = kept or (REQUIRE if selectorless else SINGLE)
    causes = cluster_ip_fields(spec)
    if causes:
        return causes
    if old is not None:
        causes += _changed(spec, old)
    causes += _fits_policy(spec)
    causes += _infer(spec, cluster)
    if causes:
        return causes
    families = list(spec.get("ipFamilies") or ())
    if not selectorless:
        causes = _configured(spec, families, cluster)
        if causes:
            return causes
    families = families or [cluster[0]]
    both = selectorless or len(cluster) == 2
    if spec["ipFamilyPolicy"] != SINGLE and len(families) == 1 and both:
        families.append(other_family(families[0]))
    spec["ipFamilies"] = families
    return []


def stays(spec: Spec, old: Spec | None) -> bool:
    """Whether an update leaves a service that prefers two families as it is."""
    if old is None or spec.get("ipFamilyPolicy") != PREFER or spec.get("type") not in WITH_CLUSTER_IP:
        return False
    same = old.get("type") == spec.get("type") and old.get("ipFamilyPolicy") in (None, PREFER)
    return same and _same(spec, old, "clusterIPs") and _same(spec, old, "ipFamilies")


def _changed(spec: Spec, old: Spec) -> list[Cause]:
    """The policy SingleStack gives the second address and family back; without it they may not be left out."""
    pairs = (("clusterIPs", "cluster IP"), ("ipFamilies", "IP family"))
    causes: list[Cause] = []
    for field, words in pairs:
        now, was = spec.get(field) or [], old.get(field) or []
        if spec["ipFamilyPolicy"] == SINGLE:
            if now == was and len(now) > 1:
                spec[field] = now[:1]
        elif now and len(now) < len(was):
            detail = f"must be 'SingleStack' to release the secondary {words}"
            causes.append(invalid(_POLICY, spec["ipFamilyPolicy"], detail))
    return causes


def _fits_policy(spec: Spec) -> list[Cause]:
    if spec["ipFamilyPolicy"] != SINGLE:
        return []
    causes = []
    for field, words in (("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")):
        if len(spec.get(field) or ()) == 2:
            detail = f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {words} are specified"
            causes.append(invalid(_POLICY, SINGLE, detail))
    return causes


def _infer(spec: Spec, cluster: Sequence[str]) -> list[Cause]:
    """Families of addresses that were given without."""
    causes: list[Cause] = []
    addresses = spec.get("clusterIPs") or []
    families = list(spec.get("ipFamilies") or ())
    for index, address in enumerate(addresses):
        if address == HEADLESS:
            break
        if index < len(families):
            continue
        family = "IPv6" if ":" in address else "IPv4"
        if family in cluster:
            families.append(family)
        else:
            detail = f"{family} is not configured on this cluster"
            causes.append(invalid(f"spec.clusterIPs[{index}]", addresses, detail))
    if families:
        spec["ipFamilies"] = families
    return causes


def _configured(spec: Spec, families: Sequence[str], cluster: Sequence[str]) -> list[Cause]:
    causes: list[Cause] = []
    if spec["ipFamilyPolicy"] == REQUIRE and len(cluster) < 2:
        causes.append(invalid(_POLICY, REQUIRE, "this cluster is not configured for dual-stack services"))
    for index, family in enumerate(families):
        if family not in cluster:
            causes.append(invalid(f"spec.ipFamilies[{index}]", family, "not configured on this cluster"))
    return causes


def _same(spec: Spec, old: Spec, field: str) -> bool:
    return (spec.get(field) or []) == (old.get(field) or [])

"""What the API server's health endpoints look at: the store, and how far the server has come since its start.

Source: Kubernetes' "API health endpoints"; the names of the hooks are what its server answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from bamikube.apiserver.cache import Cache
from bamikube.apiserver.health import Check, Health
from bamikube.store.port import StoreError

_PATIENCE = 2.0  # seconds for the store to answer

# What has to have happened after the start, under the names that people's monitoring knows: once the cache is loaded,
_LOADED = (
    "generic-apiserver-start-informers",
    "start-apiextensions-informers",
    "crd-informer-synced",
    "start-kube-aggregator-informers",
    "priority-and-fairness-config-consumer",
)
# once what every cluster has is written and can be read here,
_OPENED = (
    "start-apiserver-admission-initializer",
    "start-system-namespaces-controller",
    "start-cluster-authentication-info-controller",
    "rbac/bootstrap-roles",
    "scheduling/bootstrap-system-priority-classes",
    "priority-and-fairness-config-producer",
)
# and once everything that goes on beside the requests has begun.
_BEGUN = (
    "start-apiextensions-controllers",
    "start-kube-apiserver-identity-lease-controller",
    "start-kube-apiserver-identity-lease-garbage-collector",
    "start-legacy-token-tracking-controller",
    "apiservice-registration-controller",
    "apiservice-status-remote-available-controller",
    "apiservice-discovery-controller",
    "apiservice-openapi-controller",
    "apiservice-openapiv3-controller",
    "kube-apiserver-autoregistration",
)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a server has come. ``stopping`` tells whether it is about to end."""

    opened: asyncio.Event
    ranged: asyncio.Event
    compared: asyncio.Event
    begun: asyncio.Event
    stopping: Callable[[], bool]


def add_checks(health: Health, cache: Cache, progress: Progress) -> None:
    """Have ``health`` look at everything, in the order in which it is told of."""

    async def etcd() -> str | None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await cache.current()
        except (StoreError, TimeoutError) as error:
            return str(error)
        return None

    stopping = progress.stopping
    ping = _unless(lambda: False, "")
    synced = _unless(lambda: not cache.synced.is_set(), "the cache is not loaded")
    opened = _unless(lambda: not progress.opened.is_set(), "bootstrap objects are not written yet")
    ranged = _unless(lambda: not progress.ranged.is_set(), "the default ServiceCIDR is not written yet")
    compared = _unless(
        lambda: not progress.compared.is_set(), "the allocations of services are not compared yet"
    )
    begun = _unless(lambda: not (progress.begun.is_set() or stopping()), "not everything has begun yet")
    health.add("ping", ping)
    health.add("log", ping)
    health.add("etcd", etcd)
    health.add("etcd-readiness", etcd, ready_only=True)
    health.add("informer-sync", synced, ready_only=True)
    health.add("shutdown", _unless(stopping, "the server is stopping"), ready_only=True)
    health.add("poststarthook/start-kubernetes-service-cidr-controller", ranged)
    health.add("poststarthook/start-service-ip-repair-controllers", compared)
    for names, check in ((_LOADED, synced), (_OPENED, opened), (_BEGUN, begun)):
        for name in names:
            health.add(f"poststarthook/{name}", check)
    health.add("autoregister-completion", begun)


def _unless(amiss: Callable[[], bool], why: str) -> Check:
    """A check that fails, saying ``why``, while something is amiss."""

    async def check() -> str | None:
        return why if amiss() else None

    return check

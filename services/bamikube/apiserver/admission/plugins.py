"""Which plugins there are, in which order they run, and which of them are on without being asked for.

The order is the one Kubernetes recommends: what fills something in comes before what judges it, quotas come last, so
that nothing is counted that somebody else refuses.

Source: Kubernetes' admission controller reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bamikube.api.resources import Resource
from bamikube.apiserver.admission.always_pull_images import AlwaysPullImages
from bamikube.apiserver.admission.anti_affinity import LimitPodHardAntiAffinityTopology
from bamikube.apiserver.admission.certificates import (
    CertificateApproval,
    CertificateSigning,
    CertificateSubjectRestriction,
    ClusterTrustBundleAttest,
    Requester,
    TrustAnchors,
)
from bamikube.apiserver.admission.chain import Admission, Plugin
from bamikube.apiserver.admission.configuration import UNCONFIGURED, Configured
from bamikube.apiserver.admission.default_classes import DefaultIngressClass, DefaultStorageClass
from bamikube.apiserver.admission.event_rate_limit import EventRateLimit
from bamikube.apiserver.admission.extended_resources import ExtendedResourceToleration
from bamikube.apiserver.admission.external_ips import DenyServiceExternalIPs
from bamikube.apiserver.admission.limit_ranger import LimitRanger
from bamikube.apiserver.admission.namespace_lifecycle import NamespaceLifecycle
from bamikube.apiserver.admission.node_restriction import NodeRestriction
from bamikube.apiserver.admission.owner_references import OwnerReferencesPermissionEnforcement
from bamikube.apiserver.admission.pod_node_selector import PodNodeSelector
from bamikube.apiserver.admission.pod_security import PodSecurity
from bamikube.apiserver.admission.policies import MutatingAdmissionPolicy, ValidatingAdmissionPolicy
from bamikube.apiserver.admission.priority import Priority
from bamikube.apiserver.admission.quota_ledger import QuotaLedger
from bamikube.apiserver.admission.rbac_escalation import RbacEscalation
from bamikube.apiserver.admission.resource_quota import ResourceQuota
from bamikube.apiserver.admission.runtime_class import RuntimeClass
from bamikube.apiserver.admission.service_account import ServiceAccount
from bamikube.apiserver.admission.storage_protection import (
    PersistentVolumeClaimResize,
    StorageObjectInUseProtection,
)
from bamikube.apiserver.admission.taint_nodes import TaintNodesByCondition
from bamikube.apiserver.admission.toleration_restriction import PodTolerationRestriction
from bamikube.apiserver.admission.tolerations import DefaultTolerationSeconds
from bamikube.apiserver.admission.webhooks import MutatingAdmissionWebhook, ValidatingAdmissionWebhook
from bamikube.apiserver.outbound import Caller
from bamikube.apiserver.registry.reader import Reader
from bamikube.kit.world import World
from bamikube.store.port import Store

if TYPE_CHECKING:
    from bamikube.apiserver.authz.authorizer import Authorizer


@dataclass(frozen=True, slots=True)
class Parts:
    """What plugins are made of. ``caller`` reaches webhooks; ``rows`` are the resources served now."""

    reader: Reader
    world: World
    authorizer: Authorizer
    caller: Caller
    rows: Callable[[], Sequence[Resource]]
    store: Store
    configured: Configured = UNCONFIGURED
    not_ready_seconds: int = 300
    unreachable_seconds: int = 300


@dataclass(frozen=True, slots=True)
class Known:
    """A plugin that can be switched. ``default`` says whether it is on when no flag names it."""

    plugin: type[Plugin]
    build: Callable[[Parts], Plugin]
    default: bool = True


KNOWN: tuple[Known, ...] = (
    Known(NamespaceLifecycle, lambda parts: NamespaceLifecycle(parts.reader)),
    Known(LimitPodHardAntiAffinityTopology, lambda parts: LimitPodHardAntiAffinityTopology(), default=False),
    Known(LimitRanger, lambda parts: LimitRanger(parts.reader)),
    Known(ServiceAccount, lambda parts: ServiceAccount(parts.reader, parts.world)),
    Known(NodeRestriction, lambda parts: NodeRestriction(parts.reader, parts.authorizer)),
    Known(TaintNodesByCondition, lambda parts: TaintNodesByCondition()),
    Known(AlwaysPullImages, lambda parts: AlwaysPullImages(), default=False),
    Known(PodSecurity, lambda parts: PodSecurity(parts.reader, parts.configured.pod_security)),
    Known(PodNodeSelector, lambda parts: PodNodeSelector(parts.reader), default=False),
    Known(Priority, lambda parts: Priority(parts.reader)),
    Known(
        DefaultTolerationSeconds,
        lambda parts: DefaultTolerationSeconds(parts.not_ready_seconds, parts.unreachable_seconds),
    ),
    Known(
        PodTolerationRestriction,
        lambda parts: PodTolerationRestriction(parts.reader, parts.configured.tolerations),
        default=False,
    ),
    Known(
        EventRateLimit,
        lambda parts: EventRateLimit(parts.configured.events, parts.world.clock),
        default=False,
    ),
    Known(ExtendedResourceToleration, lambda parts: ExtendedResourceToleration(), default=False),
    Known(DefaultStorageClass, lambda parts: DefaultStorageClass(parts.reader)),
    Known(StorageObjectInUseProtection, lambda parts: StorageObjectInUseProtection()),
    Known(
        OwnerReferencesPermissionEnforcement,
        lambda parts: OwnerReferencesPermissionEnforcement(parts.authorizer, parts.rows),
        default=False,
    ),
    Known(PersistentVolumeClaimResize, lambda parts: PersistentVolumeClaimResize(parts.reader)),
    Known(RuntimeClass, lambda parts: RuntimeClass(parts.reader)),
    Known(CertificateApproval, lambda parts: CertificateApproval(parts.authorizer)),
    Known(CertificateSigning, lambda parts: CertificateSigning(parts.authorizer)),
    Known(ClusterTrustBundleAttest, lambda parts: ClusterTrustBundleAttest(parts.authorizer)),
    Known(CertificateSubjectRestriction, lambda parts: CertificateSubjectRestriction()),
    Known(DefaultIngressClass, lambda parts: DefaultIngressClass(parts.reader)),
    Known(DenyServiceExternalIPs, lambda parts: DenyServiceExternalIPs(), default=False),
    Known(
        MutatingAdmissionPolicy,
        lambda parts: MutatingAdmissionPolicy(parts.reader, parts.authorizer, parts.rows),
    ),
    Known(
        MutatingAdmissionWebhook,
        lambda parts: MutatingAdmissionWebhook(
            parts.reader,
            parts.world,
            parts.caller,
            parts.authorizer,
            parts.rows,
            parts.configured.mutating,
        ),
    ),
    Known(
        ValidatingAdmissionPolicy,
        lambda parts: ValidatingAdmissionPolicy(parts.reader, parts.world, parts.authorizer, parts.rows),
    ),
    Known(
        ValidatingAdmissionWebhook,
        lambda parts: ValidatingAdmissionWebhook(
            parts.reader,
            parts.world,
            parts.caller,
            parts.authorizer,
            parts.rows,
            parts.configured.validating,
        ),
    ),
    Known(
        ResourceQuota,
        lambda parts: ResourceQuota(
            QuotaLedger(parts.reader), parts.store, parts.reader, parts.configured.limited
        ),
    ),
)


def standard(parts: Parts, *, enabled: Sequence[str] = (), disabled: Sequence[str] = ()) -> Admission:
    """The default plugins, with those named in ``enabled`` and without those in ``disabled``.

    What the storage of some kinds does in Kubernetes (nobody hands out rights he does not hold; who asks for a
    certificate is written down by the server, what a bundle of trust anchors holds) is part of every chain. Raises ValueError for names that are unknown
    or in both lists.
    """
    names = [known.plugin.name for known in KNOWN]
    for flag, given in (("--enable-admission-plugins", enabled), ("--disable-admission-plugins", disabled)):
        if unknown := sorted(set(given) - set(names)):
            raise ValueError(
                f"{flag}: unknown admission plugins {', '.join(unknown)}; known are {', '.join(names)}"
            )
    if both := sorted(set(enabled) & set(disabled)):
        raise ValueError(
            f"{', '.join(both)} in --enable-admission-plugins and --disable-admission-plugins: choose one"
        )
    chosen = [
        known.build(parts)
        for known in KNOWN
        if known.plugin.name in enabled or (known.default and known.plugin.name not in disabled)
    ]
    return Admission(
        [Requester(), TrustAnchors(), *chosen, RbacEscalation(parts.authorizer)], parts.world.clock.monotonic
    )


def ledger_of(chain: Admission) -> QuotaLedger | None:
    """The ledger of the chain's quotas; None when they are switched off."""
    return next((one.ledger for one in chain.plugins if isinstance(one, ResourceQuota)), None)

"""Flags of kube-apiserver that switch what is served.

Almost nothing can be switched here: what asks for the way it is passes, anything else is refused with the reason, so that
nobody believes in a switch that does nothing. The kinds of :data:`table.OPTIONAL` are off, as they are in Kubernetes, and
are served where both their gate and ``--runtime-config`` ask for them::

    --feature-gates=ClusterTrustBundle=true,ClusterTrustBundleProjection=true
    --runtime-config=certificates.k8s.io/v1beta1/clustertrustbundles=true

Source: the reference of kube-apiserver's flags, feature gates of v1.34.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from bamikube.api import table
from bamikube.api.resources import Resource

# Gates of what is served, and cannot be turned off.
ON = frozenset(
    {
        "APIServerIdentity",
        "AdmissionWebhookMatchConditions",
        "AggregatedDiscoveryRemoveBetaType",
        "AnonymousAuthConfigurableEndpoints",
        "AuthorizeNodeWithSelectors",
        "AuthorizeWithSelectors",
        "CRDValidationRatcheting",
        "ConsistentListFromCache",
        "CustomResourceFieldSelectors",
        "MutatingAdmissionPolicy",
        "RetryGenerateName",
        "ServerSideApply",
        "ServerSideFieldValidation",
        "ServiceAccountNodeAudienceRestriction",
        "ServiceAccountTokenJTI",
        "ServiceAccountTokenNodeBinding",
        "ServiceAccountTokenNodeBindingValidation",
        "ServiceAccountTokenPodNodeInfo",
        "TranslateStreamCloseWebsocketRequests",
        "PortForwardWebsockets",
        "ValidatingAdmissionPolicy",
        "VolumeAttributesClass",
        "WatchList",
    }
)
# Gates of what is off, and may be turned on: of each the kind that it opens, if it is one.
OFF: dict[str, Resource | None] = {
    "ClusterTrustBundle": table.CLUSTER_TRUST_BUNDLES,
    "ClusterTrustBundleProjection": None,  # a volume of it needs nothing more from this server
}
# What of these is beta in v1.34; the rest is GA, which metrics call "".
_BETA = frozenset(
    {
        "APIServerIdentity",
        "MutatingAdmissionPolicy",
        "PortForwardWebsockets",
        "ServiceAccountNodeAudienceRestriction",
        "TranslateStreamCloseWebsocketRequests",
        "WatchList",
    }
)
# Groups of gates: what is alpha is not there; what is served of the rest cannot be turned off.
_GROUPS = {"AllAlpha": False, "AllBeta": True}
_BOOL = {"true": True, "false": False}
_EVERYTHING = {"api/all", "api/beta", "api/ga", "api/legacy"}


def stages() -> dict[str, str]:
    """The stage of every gate of :data:`ON`, as metrics tell it."""
    return {name: "BETA" if name in _BETA else "" for name in sorted(ON)}


def check_gates(gates: Mapping[str, str]) -> None:
    """``--feature-gates``. Raises ValueError."""
    for name, text in gates.items():
        value = _bool(name, text)
        if name in OFF:
            continue
        if name not in ON and name not in _GROUPS:
            raise ValueError(
                f"unrecognized feature gate: {name}; known are {', '.join(sorted(ON | OFF.keys()))}"
            )
        fixed = _GROUPS.get(name, True)
        if value != fixed:
            shown = str(fixed).lower()
            raise ValueError(
                f"cannot set feature gate {name} to {text.lower()}, feature is locked to {shown}"
            )


def optional(gates: Mapping[str, str], wanted: Mapping[str, str]) -> tuple[Resource, ...]:
    """The rows that are served beside the usual ones. Both flags have been checked."""
    return tuple(
        row
        for gate, row in OFF.items()
        if row is not None and gates.get(gate, "").lower() == "true" and _asked(row, wanted)
    )


def _names(row: Resource) -> tuple[str, ...]:
    """What ``--runtime-config`` may call a kind by, the closest first."""
    return f"{row.api_version}/{row.plural}", row.api_version, "api/beta", "api/all"


def _asked(row: Resource, wanted: Mapping[str, str]) -> bool:
    said = next((wanted[name] for name in _names(row) if name in wanted), "false")
    return _BOOL[(said or "true").lower()]


def check_runtime_config(wanted: Mapping[str, str], served: Collection[str]) -> None:
    """``--runtime-config``. ``served`` are the group versions there are, core as ``v1``. Raises ValueError."""
    off = {name for row in table.OPTIONAL for name in _names(row)[:2]} - set(served)
    for name, text in wanted.items():
        value = _bool(name, text or "true")
        if name in off:
            continue
        version = name.removeprefix("api/") if name.removeprefix("api/") in served else name
        if name == "api/alpha":
            if value:
                raise ValueError(f"{name}: alpha versions of APIs are not served")
            continue
        if name in _EVERYTHING or version in served:
            if not value:
                raise ValueError(f"{name}={text}: what is served cannot be turned off")
        elif value:
            raise ValueError(f"{name}: not served; served are {', '.join(sorted(served))}")


def _bool(name: str, text: str) -> bool:
    if text.lower() not in _BOOL:
        raise ValueError(f"{name}={text}: must be true or false")
    return _BOOL[text.lower()]

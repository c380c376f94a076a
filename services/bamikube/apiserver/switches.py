"""Flags of kube-apiserver that switch what cannot be switched here: what asks for the way it is passes, anything else is
refused with the reason, so that nobody believes in a switch that does nothing.

Source: the reference of kube-apiserver's flags, feature gates of v1.34.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

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
        if name not in ON and name not in _GROUPS:
            raise ValueError(f"unrecognized feature gate: {name}; known are {', '.join(sorted(ON))}")
        fixed = _GROUPS.get(name, True)
        if value != fixed:
            shown = str(fixed).lower()
            raise ValueError(
                f"cannot set feature gate {name} to {text.lower()}, feature is locked to {shown}"
            )


def check_runtime_config(wanted: Mapping[str, str], served: Collection[str]) -> None:
    """``--runtime-config``. ``served`` are the group versions there are, core as ``v1``. Raises ValueError."""
    for name, text in wanted.items():
        value = _bool(name, text or "true")
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

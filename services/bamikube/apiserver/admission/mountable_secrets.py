"""Which secrets the pods of a service account may use (the annotation ``kubernetes.io/enforce-mountable-secrets``).

With it, a pod may refer to those secrets only that the account lists in ``secrets``, and pull images with those only that
it lists in ``imagePullSecrets``. Kubernetes deprecates the annotation (v1.32) for namespaces that hold secrets apart; it
holds all the same.

Source: "Managing Service Accounts", enforce mountable secrets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]

ANNOTATION = "kubernetes.io/enforce-mountable-secrets"
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})  # what Go's strconv takes for true
_CONTAINERS = (
    ("initContainers", "init container"),
    ("containers", "container"),
)
_EPHEMERAL = (("ephemeralContainers", "ephemeral container"),)


def enforced(account: Object) -> bool:
    return (account["metadata"].get("annotations") or {}).get(ANNOTATION) in _TRUE


def forbidden_secret(account: Object, pod: Object) -> str:
    """What a new pod refers to and its account does not list, in words; "" when there is nothing."""
    name = account["metadata"]["name"]
    spec = pod.get("spec") or {}
    mountable = {one.get("name") for one in account.get("secrets") or ()}
    cannot = f"is not allowed because service account {name} does not reference that"
    for volume in spec.get("volumes") or ():
        if "secret" in volume and (wanted := (volume["secret"] or {}).get("secretName", "")) not in mountable:
            return f'volume with secret.secretName="{wanted}" {cannot} secret'
    for what, wanted in _of_containers(spec, _CONTAINERS):
        if wanted not in mountable:
            return f'{what} referencing secret.secretName="{wanted}" {cannot} secret'
    pulling = {one.get("name") for one in account.get("imagePullSecrets") or ()}
    for index, one in enumerate(spec.get("imagePullSecrets") or ()):
        if one.get("name") not in pulling:
            return f'imagePullSecrets[{index}].name="{one.get("name", "")}" {cannot} imagePullSecret'
    return ""


def forbidden_to_ephemeral(account: Object, pod: Object) -> str:
    """The same for the ephemeral containers of a pod."""
    mountable = {one.get("name") for one in account.get("secrets") or ()}
    for what, wanted in _of_containers(pod.get("spec") or {}, _EPHEMERAL):
        if wanted not in mountable:
            name = account["metadata"]["name"]
            return (
                f'{what} referencing secret.secretName="{wanted}" is not allowed because service account {name} '
                "does not reference that secret"
            )
    return ""


def _of_containers(spec: Object, fields: tuple[tuple[str, str], ...]) -> Iterator[tuple[str, str]]:
    """Who refers to a secret, and to which."""
    for field, kind in fields:
        for container in spec.get(field) or ():
            who = f"{kind} {container.get('name', '')} with"
            for variable in container.get("env") or ():
                reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
                if reference is not None:
                    yield f"{who} envVar {variable.get('name', '')}", str(reference.get("name") or "")
            for source in container.get("envFrom") or ():
                if (reference := source.get("secretRef")) is not None:
                    yield f"{who} envFrom", str(reference.get("name") or "")

"""Rules of a pod's volumes."""

from __future__ import annotations

from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.memory import FEW, Approved
from bamikube.api.names import is_dns1123_label, is_dns1123_subdomain
from bamikube.api.quantity import Quantity
from bamikube.api.validation import trust_bundles
from bamikube.api.validation.containers import downward_field, resource_field_ref
from bamikube.api.validation.rules import duplicate, forbidden, invalid, named, not_supported, required

_HOST_PATH_TYPES = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)


def _items(field: str, items: list[dict[str, Any]]) -> list[Cause]:
    causes: list[Cause] = []
    for index, item in enumerate(items):
        path = f"{field}[{index}]"
        if not item.get("key"):
            causes.append(required(f"{path}.key"))
        causes += _local_path(f"{path}.path", item.get("path"))
        causes += _mode(f"{path}.mode", item.get("mode"))
    return causes


def _local_path(field: str, path: str | None) -> list[Cause]:
    if not path:
        return [required(field)]
    if path.startswith("/"):
        return [invalid(field, path, "must be a relative path")]
    if ".." in path.split("/"):
        return [invalid(field, path, "must not contain '..'")]
    return [invalid(field, path, "must not start with '..'")] if path.startswith("..") else []


def _mode(field: str, mode: int | None) -> list[Cause]:
    if mode is None or 0 <= mode <= 0o777:
        return []
    return [invalid(field, mode, "must be a number between 0 and 0777 (octal), both inclusive")]


def _downward(field: str, items: list[dict[str, Any]]) -> list[Cause]:
    causes: list[Cause] = []
    for index, item in enumerate(items):
        path = f"{field}[{index}]"
        causes += _local_path(f"{path}.path", item.get("path"))
        if item.get("fieldRef") is not None:
            causes += downward_field(f"{path}.fieldRef", item["fieldRef"])
        elif item.get("resourceFieldRef") is not None:
            causes += resource_field_ref(f"{path}.resourceFieldRef", item["resourceFieldRef"])
        else:
            causes.append(required(path, "one of fieldRef and resourceFieldRef is required"))
    return causes


def _projected(field: str, source: dict[str, Any]) -> list[Cause]:
    causes = _mode(f"{field}.defaultMode", source.get("defaultMode"))
    for index, each in enumerate(source.get("sources") or ()):
        path = f"{field}.sources[{index}]"
        if not each:
            causes.append(required(path, "must specify one source"))
        for kind in ("secret", "configMap"):
            if each.get(kind) is not None:
                causes += named(f"{path}.{kind}.name", each[kind].get("name"), is_dns1123_subdomain)
                causes += _items(f"{path}.{kind}.items", each[kind].get("items") or [])
        if each.get("downwardAPI") is not None:
            causes += _downward(f"{path}.downwardAPI.items", each["downwardAPI"].get("items") or [])
        bundle = each.get("clusterTrustBundle")
        if bundle is not None:
            causes += trust_bundles.projection(f"{path}.clusterTrustBundle", bundle)
            causes += _local_path(f"{path}.clusterTrustBundle.path", bundle.get("path"))
        token = each.get("serviceAccountToken")
        if token is not None:
            seconds = token.get("expirationSeconds", 3600)
            if seconds < 600:
                causes.append(
                    invalid(
                        f"{path}.serviceAccountToken.expirationSeconds",
                        seconds,
                        "may not specify a duration less than 10 minutes",
                    )
                )
            causes += _local_path(f"{path}.serviceAccountToken.path", token.get("path"))
    return causes


def _volume(path: str, volume: dict[str, Any]) -> list[Cause]:
    sources = [kind for kind in volume if kind != "name"]
    if not sources:
        return [required(path, "must specify a volume type")]
    causes = [forbidden(f"{path}.{kind}", "may not specify more than 1 volume type") for kind in sources[1:]]
    kind, source = sources[0], volume[sources[0]]
    field = f"{path}.{kind}"
    if kind == "secret":
        causes += named(f"{field}.secretName", source.get("secretName"), is_dns1123_subdomain)
        causes += _mode(f"{field}.defaultMode", source.get("defaultMode"))
        causes += _items(f"{field}.items", source.get("items") or [])
    elif kind == "configMap":
        causes += named(f"{field}.name", source.get("name"), is_dns1123_subdomain)
        causes += _mode(f"{field}.defaultMode", source.get("defaultMode"))
        causes += _items(f"{field}.items", source.get("items") or [])
    elif kind == "downwardAPI":
        causes += _downward(f"{field}.items", source.get("items") or [])
    elif kind == "projected":
        causes += _projected(field, source)
    elif kind == "hostPath":
        if not source.get("path"):
            causes.append(required(f"{field}.path"))
        elif ".." in source["path"].split("/"):
            causes.append(invalid(f"{field}.path", source["path"], "must not contain '..'"))
        if source.get("type") not in _HOST_PATH_TYPES and source.get("type") is not None:
            causes.append(not_supported(f"{field}.type", source["type"], _HOST_PATH_TYPES))
    elif kind == "emptyDir" and source.get("sizeLimit") is not None:
        if Quantity.parse(source["sizeLimit"]).sign() < 0:
            detail = "SizeLimit field must be a valid resource quantity"
            causes.append(forbidden(f"{field}.sizeLimit", detail))
    elif kind == "ephemeral":
        causes += _ephemeral(field, source)
    elif kind == "persistentVolumeClaim" and not source.get("claimName"):
        causes.append(required(f"{field}.claimName"))
    elif kind == "nfs":
        causes += [required(f"{field}.{name}") for name in ("server", "path") if not source.get(name)]
    elif kind == "image" and not source.get("reference"):
        causes.append(required(f"{field}.reference"))
    elif kind == "csi" and not source.get("driver"):
        causes.append(required(f"{field}.driver"))
    return causes


def _ephemeral(field: str, source: dict[str, Any]) -> list[Cause]:
    template = source.get("volumeClaimTemplate")
    if template is None:
        return [required(f"{field}.volumeClaimTemplate")]
    spec, path = template.get("spec") or {}, f"{field}.volumeClaimTemplate.spec"
    causes: list[Cause] = []
    if not spec.get("accessModes"):
        causes.append(required(f"{path}.accessModes", "at least 1 access mode is required"))
    if ((spec.get("resources") or {}).get("requests") or {}).get("storage") is None:
        causes.append(required(f"{path}.resources[storage]"))
    return causes


_APPROVED = Approved(1024)


def volumes(field: str, given: list[dict[str, Any]]) -> tuple[list[Cause], set[str]]:
    """The volumes of a pod, and their names."""
    if len(given) < FEW:
        causes = _volumes(field, given)
    else:
        causes = _APPROVED.judge(given, lambda: _volumes(field, given))
    return causes, {name for volume in given if (name := volume.get("name"))}


def _volumes(field: str, given: list[dict[str, Any]]) -> list[Cause]:
    causes: list[Cause] = []
    names: set[str] = set()
    for index, volume in enumerate(given):
        path = f"{field}[{index}]"
        name = volume.get("name")
        causes += named(f"{path}.name", name, is_dns1123_label)
        if name:
            if name in names:
                causes.append(duplicate(f"{path}.name", name))
            names.add(name)
        causes += _volume(path, volume)
    return causes

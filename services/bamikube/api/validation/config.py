"""Rules of config maps, secrets and service accounts."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

import orjson

from bamikube.api.errors import Cause
from bamikube.api.names import is_config_map_key, is_dns1123_subdomain
from bamikube.api.validation.rules import IMMUTABLE, forbidden, invalid, named, required, too_long

SIZE_LIMIT = 1024 * 1024  # bytes of all values
_FROZEN = "field is immutable when `immutable` is set"


def _config_map(obj: dict[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    size = 0
    for key, value in data.items():
        causes += [invalid(f"data[{key}]", key, message) for message in is_config_map_key(key)]
        if key in binary:
            causes.append(invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
        size += len(value.encode())
    for key, value in binary.items():
        causes += [invalid(f"binaryData[{key}]", key, message) for message in is_config_map_key(key)]
        size += len(value) * 3 // 4
    return [*causes, too_long("[]", SIZE_LIMIT)] if size > SIZE_LIMIT else causes


def _frozen(new: dict[str, Any], old: dict[str, Any], fields: tuple[str, ...]) -> list[Cause]:
    if not old.get("immutable"):
        return []
    causes = [] if new.get("immutable") else [forbidden("immutable", _FROZEN)]
    causes += [forbidden(name, _FROZEN) for name in fields if (new.get(name) or {}) != (old.get(name) or {})]
    return causes


def _config_map_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    return _frozen(new, old, ("data", "binaryData"))


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value)
    except (binascii.Error, ValueError):
        return b""


_NEEDED_KEYS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
_JSON_KEYS = (".dockercfg", ".dockerconfigjson")


def _secret(obj: dict[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    data, kind = obj.get("data") or {}, obj.get("type") or ""
    size = 0
    for key, value in data.items():
        causes += [invalid(f"data[{key}]", key, message) for message in is_config_map_key(key)]
        size += len(value) * 3 // 4 - value[-2:].count("=")
    if size > SIZE_LIMIT:
        causes.append(too_long("data", SIZE_LIMIT))
    for key in _NEEDED_KEYS.get(kind, ()):
        if key not in data:
            causes.append(required(f"data[{key}]"))
        elif key in _JSON_KEYS:
            try:
                orjson.loads(_decoded(data[key]))
            except orjson.JSONDecodeError as error:
                causes.append(invalid(f"data[{key}]", "<secret contents redacted>", str(error)))
    if kind == "kubernetes.io/basic-auth" and "username" not in data and "password" not in data:
        causes += [required("data[username]"), required("data[password]")]
    if kind == "kubernetes.io/service-account-token":
        notes = (obj.get("metadata") or {}).get("annotations") or {}
        if not notes.get("kubernetes.io/service-account.name"):
            causes.append(required("metadata.annotations[kubernetes.io/service-account.name]"))
    return causes


def _secret_change(new: dict[str, Any], old: dict[str, Any]) -> list[Cause]:
    causes = [] if new.get("type") == old.get("type") else [invalid("type", new.get("type"), IMMUTABLE)]
    return causes + _frozen(new, old, ("data",))


def _service_account(obj: dict[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    for index, each in enumerate(obj.get("imagePullSecrets") or ()):
        causes += named(
            f"imagePullSecrets[{index}].name", each.get("name"), is_dns1123_subdomain, needed=False
        )
    return causes


CREATE: dict[tuple[str, str], Callable[[dict[str, Any]], list[Cause]]] = {
    ("", "configmaps"): _config_map,
    ("", "secrets"): _secret,
    ("", "serviceaccounts"): _service_account,
}
UPDATE: dict[tuple[str, str], Callable[[dict[str, Any], dict[str, Any]], list[Cause]]] = {
    ("", "configmaps"): _config_map_change,
    ("", "secrets"): _secret_change,
}

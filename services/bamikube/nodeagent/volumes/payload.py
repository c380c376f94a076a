"""What the files of a configMap, secret, downwardAPI or projected volume hold. Pure.

``needs`` says which objects and tokens a pod's volumes want, ``payload`` turns them into files. A missing object is
an error that names it (the pod waits with FailedMount) unless the source is optional.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from bamikube.nodeagent.container.env import ConfigError, Sources, field, resource
from bamikube.nodeagent.pod.facts import JSON

DEFAULT_MODE = 0o644
DEFAULT_TOKEN_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class File:
    data: bytes
    mode: int


@dataclass(frozen=True, slots=True)
class TokenNeed:
    audience: str
    seconds: int


def is_written(volume: JSON) -> bool:
    """The node agent writes this volume's files itself."""
    return any(kind in volume for kind in ("configMap", "secret", "downwardAPI", "projected"))


def sources(volume: JSON) -> list[JSON]:
    """A volume as a list of projections: plain ones are projected volumes with one source."""
    if "projected" in volume:
        return list(volume["projected"].get("sources") or ())
    if "configMap" in volume:
        return [{"configMap": volume["configMap"]}]
    if "secret" in volume:
        return [{"secret": volume["secret"] | {"name": volume["secret"].get("secretName", "")}}]
    if "downwardAPI" in volume:
        return [{"downwardAPI": volume["downwardAPI"]}]
    return []


def needs(volume: JSON) -> tuple[set[tuple[str, str]], set[TokenNeed]]:
    """Objects by (kind, name), and tokens."""
    objects: set[tuple[str, str]] = set()
    tokens: set[TokenNeed] = set()
    for source in sources(volume):
        if "configMap" in source:
            objects.add(("ConfigMap", source["configMap"].get("name", "")))
        elif "secret" in source:
            objects.add(("Secret", source["secret"].get("name", "")))
        elif "serviceAccountToken" in source:
            tokens.add(token_need(source["serviceAccountToken"]))
    return objects, tokens


def token_need(source: JSON) -> TokenNeed:
    return TokenNeed(
        source.get("audience") or "", int(source.get("expirationSeconds") or DEFAULT_TOKEN_SECONDS)
    )


def default_mode(volume: JSON) -> int:
    for kind in ("configMap", "secret", "downwardAPI", "projected"):
        if kind in volume:
            chosen = volume[kind].get("defaultMode")
            return DEFAULT_MODE if chosen is None else int(chosen)
    return DEFAULT_MODE


def payload(pod: JSON, volume: JSON, known: Sources, tokens: Mapping[TokenNeed, str]) -> dict[str, File]:
    """Files by relative path. Raises ConfigError naming what is missing or not allowed."""
    mode = default_mode(volume)
    files: dict[str, File] = {}
    for source in sources(volume):
        for kind, field_name in (("ConfigMap", "configMap"), ("Secret", "secret")):
            if field_name in source:
                files.update(_object_files(pod, kind, source[field_name], known, mode))
        if "downwardAPI" in source:
            for item in source["downwardAPI"].get("items") or ():
                if "fieldRef" in item:
                    text = field(pod, item["fieldRef"]["fieldPath"], known)
                else:
                    text = resource(pod, {}, item["resourceFieldRef"], known.allocatable)
                files[_checked(item["path"])] = File(text.encode(), _mode(item, mode))
        if "serviceAccountToken" in source:
            wanted = source["serviceAccountToken"]
            files[_checked(wanted["path"])] = File(
                tokens[token_need(wanted)].encode(), _token_mode(pod, mode)
            )
    return files


def _token_mode(pod: JSON, mode: int) -> int:
    """A token is readable by its owner only, unless the pod's group must read it or all run as one other user."""
    context = pod["spec"].get("securityContext") or {}
    if context.get("fsGroup") is not None:
        return 0o600
    users = {
        (c.get("securityContext") or {}).get("runAsUser", context.get("runAsUser"))
        for c in pod["spec"].get("containers") or ()
    }
    return 0o600 if len(users) == 1 and None not in users else mode


def _mode(item: JSON, default: int) -> int:
    return default if item.get("mode") is None else int(item["mode"])


def _checked(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise ConfigError(f"volume path {path!r} leaves the volume; use a relative path without ..")
    return path


def _object_files(pod: JSON, kind: str, ref: JSON, known: Sources, mode: int) -> dict[str, File]:
    name = ref.get("name", "")
    obj = known.objects.get((kind, name))
    if obj is None:
        if ref.get("optional"):
            return {}
        raise ConfigError(f'{kind.lower()} "{name}" not found')
    data: dict[str, bytes] = {}
    if kind == "Secret":
        data = {key: base64.b64decode(value) for key, value in (obj.get("data") or {}).items()}
    else:
        data = {key: str(value).encode() for key, value in (obj.get("data") or {}).items()}
        data |= {key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()}
    items = ref.get("items")
    if not items:
        return {key: File(value, mode) for key, value in data.items()}
    files: dict[str, File] = {}
    for item in items:
        if item["key"] not in data:
            if ref.get("optional"):
                continue
            raise ConfigError(f"references non-existent {kind.lower()} key: {item['key']}")
        files[_checked(item["path"])] = File(data[item["key"]], _mode(item, mode))
    return files

"""What the files of a configMap, secret, downwardAPI or projected volume hold. Pure.

``needs`` says which objects and tokens a pod's volumes want, ``payload`` turns them into files. A missing object is
an error that names it (the pod waits with FailedMount) unless the source is optional.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass

from bamikube.nodeagent import trust
from bamikube.nodeagent.container import security
from bamikube.nodeagent.container.env import ConfigError, Sources, field, resource
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.volumes.plugin import Given, Needs, TokenNeed

DEFAULT_MODE = 0o644
DEFAULT_TOKEN_SECONDS = 3600
MAX_PATH, MAX_NAME = 4096, 255  # characters


@dataclass(frozen=True, slots=True)
class File:
    """``owner`` is a user id; None for the node agent's own."""

    data: bytes
    mode: int
    owner: int | None = None


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


def needs(volume: JSON) -> Needs:
    """The objects, tokens and trust anchors that the volume shows."""
    objects: set[tuple[str, str]] = set()
    tokens: set[TokenNeed] = set()
    for source in sources(volume):
        if "configMap" in source:
            objects.add(("ConfigMap", source["configMap"].get("name", "")))
        elif "secret" in source:
            objects.add(("Secret", source["secret"].get("name", "")))
        elif "serviceAccountToken" in source:
            tokens.add(token_need(source["serviceAccountToken"]))
    return Needs(frozenset(objects), frozenset(tokens), trust.shows(volume))


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


def payload(pod: JSON, volume: JSON, given: Given) -> dict[str, File]:
    """Files by relative path. Raises ConfigError naming what is missing or not allowed, all faults at once."""
    mode = default_mode(volume)
    files: dict[str, File] = {}
    faults: list[str] = []
    for source in sources(volume):
        try:
            for path, file in _projection(pod, source, given, mode):
                files[checked(path)] = file
        except ConfigError as error:
            faults.append(str(error))
    if faults:
        raise ConfigError(faults[0] if len(faults) == 1 else f"[{', '.join(faults)}]")
    return files


def _projection(pod: JSON, source: JSON, given: Given, mode: int) -> Iterator[tuple[str, File]]:
    known = given.known
    for kind, field_name in (("ConfigMap", "configMap"), ("Secret", "secret")):
        if field_name in source:
            yield from _object_files(kind, source[field_name], known, mode)
    for item in (source.get("downwardAPI") or {}).get("items") or ():
        if item.get("fieldRef"):
            text = field(pod, item["fieldRef"]["fieldPath"], known)
        else:
            text = resource(pod, {}, item["resourceFieldRef"], known.allocatable)
        yield item["path"], File(text.encode(), _mode(item, mode))
    if "clusterTrustBundle" in source:
        shown = source["clusterTrustBundle"]
        yield shown["path"], _private(pod, trust.anchors(shown, given.bundles), mode)
    if "serviceAccountToken" in source:
        wanted = source["serviceAccountToken"]
        yield wanted["path"], _private(pod, given.tokens[token_need(wanted)].encode(), mode)


def _private(pod: JSON, data: bytes, mode: int) -> File:
    """A token, or trust anchors: its one reader owns it alone, or the pod's group reads it too; else it is as open as all the rest."""
    user = one_user(pod)
    grouped = (pod["spec"].get("securityContext") or {}).get("fsGroup") is not None
    return File(data, 0o600 if grouped or user is not None else mode, user)


def one_user(pod: JSON) -> int | None:
    """The one user that all containers run as, None when the spec does not name exactly one."""
    everyone = [*facts.init_containers(pod), *facts.containers(pod)]
    users = {security.effective(pod, spec, "runAsUser") for spec in everyone}
    (user,) = users if len(users) == 1 else (None,)
    return user if isinstance(user, int) else None


def _mode(item: JSON, default: int) -> int:
    return default if item.get("mode") is None else int(item["mode"])


def checked(path: str) -> str:
    """A file's path below its volume, or ConfigError: nothing may be written elsewhere, nor over ``..data``."""
    parts = path.split("/")
    if not path:
        raise ConfigError('invalid path: must not be empty: ""')
    if path.startswith("/"):
        raise ConfigError(f"invalid path: must be relative path: {path}")
    if len(path) > MAX_PATH:
        raise ConfigError(f"invalid path: must be less than or equal to {MAX_PATH} characters")
    if ".." in parts:
        raise ConfigError(f"invalid path: must not contain '..': {path}")
    if any(len(part.encode()) > MAX_NAME for part in parts):
        raise ConfigError(f"invalid path: filenames must be less than or equal to {MAX_NAME} characters")
    if parts[0].startswith(".."):
        raise ConfigError(f"invalid path: must not start with '..': {path}")
    return "/".join(part for part in parts if part not in ("", "."))


def _object_files(kind: str, ref: JSON, known: Sources, mode: int) -> Iterator[tuple[str, File]]:
    name = ref.get("name", "")
    obj = known.objects.get((kind, name))
    if obj is None:
        if ref.get("optional"):
            return
        raise ConfigError(f'{kind.lower()} "{name}" not found')
    if kind == "Secret":
        data = {key: base64.b64decode(value) for key, value in (obj.get("data") or {}).items()}
    else:
        data = {key: str(value).encode() for key, value in (obj.get("data") or {}).items()}
        data |= {key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()}
    items = ref.get("items")
    if not items:
        yield from ((key, File(value, mode)) for key, value in data.items())
        return
    for item in items:
        if item["key"] in data:
            yield item["path"], File(data[item["key"]], _mode(item, mode))
        elif not ref.get("optional"):
            what = (
                "configmap references non-existent config"
                if kind == "ConfigMap"
                else "references non-existent secret"
            )
            raise ConfigError(f"{what} key: {item['key']}")

"""Which credentials are tried for an image: from pull secrets first, then the node's own. Pure but for the reading of files.

An entry ``https://registry.example:5000/team`` is good for every image below it; host names may hold ``*`` within a part
(``*.example.com``), ports have to be the same. The most specific entry is tried first. What stands for ``index.docker.io``
serves names without a registry.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.runtime.port import Credentials

_DEFAULT = "index.docker.io"
_SECRETS = {
    "kubernetes.io/dockerconfigjson": ".dockerconfigjson",
    "kubernetes.io/dockercfg": ".dockercfg",
}


class Keyring:
    """Credentials by the place they are good for."""

    def __init__(self) -> None:
        self._entries: dict[str, list[Credentials]] = {}

    def add(self, entries: Mapping[str, Any]) -> None:
        """The entries of a docker configuration. Raises ValueError for one that cannot be read."""
        for place, entry in entries.items():
            if not isinstance(entry, Mapping):
                raise ValueError(f"the entry {place} is not an object")
            parts = urlsplit(place if place.startswith(("https://", "http://")) else f"https://{place}")
            path = parts.path[3:] if parts.path.startswith(("/v1/", "/v2/")) else parts.path
            key = parts.netloc + (path if path != "/" else "")
            self._entries.setdefault(key, []).append(_credentials(entry))

    def lookup(self, repository: str) -> list[Credentials]:
        """All that fit an image's full name without tag, the most specific place first."""
        found = [
            one
            for place in sorted(self._entries, reverse=True)
            if matches(place, repository)
            for one in self._entries[place]
        ]
        domain = repository.partition("/")[0]
        if not found and domain in ("docker.io", _DEFAULT):
            return list(self._entries.get(_DEFAULT, ()))
        return found


def matches(pattern: str, image: str) -> bool:
    """Whether a place (registry, perhaps with a path) covers an image. Schemes are not looked at."""
    ours, theirs = (urlsplit(f"//{text.partition('://')[2] or text}") for text in (pattern, image))
    host, _, port = ours.netloc.partition(":")
    other, _, other_port = theirs.netloc.partition(":")
    parts, others = host.split("."), other.split(".")
    if port != other_port or len(parts) != len(others) or not theirs.path.startswith(ours.path):
        return False
    return all(fnmatchcase(there, here) for here, there in zip(parts, others, strict=True))


def keyring_of(secrets: Iterable[JSON]) -> Keyring:
    """The credentials in pull secrets. Raises ValueError for one that holds no docker configuration."""
    keyring = Keyring()
    for secret in secrets:
        key = _SECRETS.get(secret.get("type", ""))
        data = secret.get("data") or {}
        if key is None or key not in data:
            continue
        try:
            parsed = json.loads(base64.b64decode(data[key]))
            keyring.add(parsed.get("auths") or {} if key == ".dockerconfigjson" else parsed)
        except (ValueError, AttributeError, binascii.Error) as error:
            name = secret.get("metadata", {}).get("name", "")
            raise ValueError(f"pull secret {name}: {key} cannot be read: {error}") from None
    return keyring


def node_files(root: Path, home: Path) -> list[Path]:
    """Where the node's own docker configuration may lie; the first that is there counts."""
    return [
        *(folder / "config.json" for folder in (root, home / ".docker", Path("/.docker"))),
        *(folder / ".dockercfg" for folder in (root, home, Path("/"))),
    ]


def node_keyring(files: Iterable[Path]) -> Keyring:
    """The credentials of the node itself. Raises ValueError for a file that cannot be read as what it should be."""
    keyring = Keyring()
    for path in files:
        try:
            parsed = json.loads(path.read_text())
        except OSError:
            continue
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        keyring.add(parsed.get("auths") or {} if path.name == "config.json" else parsed)
        break
    return keyring


def _credentials(entry: Mapping[str, Any]) -> Credentials:
    user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if auth := entry.get("auth"):
        text = base64.b64decode(str(auth) + "=" * (-len(str(auth)) % 4)).decode()
        user, colon, password = text.partition(":")
        if not colon:
            raise ValueError("unable to parse auth field, must be formatted as base64(username:password)")
    return Credentials(username=user, password=password, identity_token=str(entry.get("identitytoken") or ""))

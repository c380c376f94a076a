"""kubeconfig files: build, merge, write, and load them down to what a client needs to connect.

Source: "Organizing Cluster Access Using kubeconfig Files" of the Kubernetes documentation. When several files are
given (``KUBECONFIG=a:b``), the first one that names a cluster, user or context wins, and so does the first
``current-context``. Relative paths inside a file are relative to that file. Exec plugins and auth providers are not
supported and say so.
"""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bamikube.pki import files

_LISTS = ("clusters", "users", "contexts")
_ENTRY = {"clusters": "cluster", "users": "user", "contexts": "context"}
_PATHS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


class KubeconfigError(Exception):
    """The kubeconfig cannot be used; the message says which file, what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Access:
    """What it takes to reach an API server. Empty bytes and strings mean: not given."""

    server: str
    ca_pem: bytes = b""
    cert_pem: bytes = b""
    key_pem: bytes = b""
    token: str = ""
    insecure: bool = False  # do not check the server's certificate
    namespace: str = "default"
    server_name: str = ""  # the name to check in the server's certificate instead of the URL's host
    context: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a user shows to prove who he is. Empty: not that."""

    cert_pem: bytes = b""
    key_pem: bytes = b""
    token: str = ""
    token_file: str = ""
    username: str = ""
    password: str = ""


def build(
    *,
    cluster: str,
    server: str,
    ca_pem: bytes = b"",
    user: str,
    cert_pem: bytes = b"",
    key_pem: bytes = b"",
    token: str = "",
    namespace: str = "",
) -> dict[str, Any]:
    """A kubeconfig with one cluster, one user and the context ``user@cluster``, everything embedded."""
    identity: dict[str, str] = {}
    if cert_pem:
        identity["client-certificate-data"] = base64.b64encode(cert_pem).decode()
        identity["client-key-data"] = base64.b64encode(key_pem).decode()
    if token:
        identity["token"] = token
    target: dict[str, str] = {"server": server}
    if ca_pem:
        target["certificate-authority-data"] = base64.b64encode(ca_pem).decode()
    context = {"cluster": cluster, "user": user} | ({"namespace": namespace} if namespace else {})
    name = f"{user}@{cluster}"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": target}],
        "users": [{"name": user, "user": identity}],
        "contexts": [{"name": name, "context": context}],
        "current-context": name,
        "preferences": {},
    }


def merge(into: dict[str, Any], new: dict[str, Any], *, replace: bool = True) -> dict[str, Any]:
    """Both configs as one: with ``replace``, entries and the current context of ``new`` win, else those of ``into``."""
    merged: dict[str, Any] = {"apiVersion": "v1", "kind": "Config"} | into
    for kind in _LISTS:
        entries = {entry["name"]: entry for entry in into.get(kind) or []}
        for entry in new.get(kind) or []:
            if replace or entry["name"] not in entries:
                entries[entry["name"]] = entry
        merged[kind] = list(entries.values())
    first_context, second_context = into.get("current-context"), new.get("current-context")
    if replace:
        first_context, second_context = second_context, first_context
    merged["current-context"] = first_context or second_context or ""
    return merged


def write(path: Path, config: dict[str, Any]) -> None:
    """Write a kubeconfig atomically, mode 0600."""
    files.write_atomically(path, yaml.safe_dump(config, sort_keys=False).encode())


def read(path: str | Path) -> dict[str, Any]:
    """One file, or several joined by ``os.pathsep``, merged by kubectl's rules, with file references made absolute.

    Raises :class:`KubeconfigError`. Of several files, those that do not exist are passed over.
    """
    paths = [Path(part).expanduser() for part in str(path).split(os.pathsep) if part]
    config: dict[str, Any] = {}
    found = False
    for one in paths:
        if len(paths) > 1 and not one.exists():
            continue
        config = merge(config, _read_one(one), replace=False)
        found = True
    if not found:
        raise KubeconfigError(f"no kubeconfig at {path}; name one with --kubeconfig or KUBECONFIG")
    return config


def _read_one(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_bytes()) or {}
    except OSError as error:
        raise KubeconfigError(f"cannot read kubeconfig {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise KubeconfigError(f"kubeconfig {path} is not valid YAML: {error}") from error
    if not isinstance(config, dict):
        raise KubeconfigError(f"kubeconfig {path} does not hold a Config object")
    for kind in _LISTS:
        entries = config.get(kind) or []
        if not isinstance(entries, list) or not all(isinstance(e, dict) and e.get("name") for e in entries):
            raise KubeconfigError(f"kubeconfig {path}: {kind} must be a list of entries with a name")
        for entry in entries:
            body = entry.get(_ENTRY[kind]) or {}
            for field in _PATHS:
                if body.get(field):
                    body[field] = str(path.parent.absolute() / body[field])
    return config


def load(path: str | Path, context: str | None = None) -> Access:
    """What ``context`` (default: the current one) leads to. Reads the files it refers to.

    Raises :class:`KubeconfigError`.
    """
    config = read(path)
    name = context or config.get("current-context") or ""
    if not name:
        raise KubeconfigError(f"kubeconfig {path} has no current context; choose one with --context")
    chosen = _entry(config, "contexts", name, path)
    cluster = _entry(config, "clusters", chosen.get("cluster") or "", path)
    user_name = chosen.get("user") or ""
    user = _entry(config, "users", user_name, path) if user_name else {}
    if user.get("username"):
        raise _unsupported("username", user_name, path)
    found = identity(user, user_name, path)
    token = found.token
    if found.token_file and not token:
        token = _file(found.token_file, path).decode().strip()
    server = cluster.get("server") or ""
    if not server:
        raise KubeconfigError(f"cluster {chosen.get('cluster')!r} of kubeconfig {path} has no server")
    return Access(
        server=server.rstrip("/"),
        ca_pem=_data(cluster, "certificate-authority", path),
        cert_pem=found.cert_pem,
        key_pem=found.key_pem,
        token=token,
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        namespace=chosen.get("namespace") or "default",
        server_name=cluster.get("tls-server-name") or "",
        context=name,
        user=user_name,
    )


def identity(user: dict[str, Any], name: str, path: str | Path) -> Identity:
    """What a user's entry in the kubeconfig ``path`` shows. Raises :class:`KubeconfigError`."""
    for unsupported in ("exec", "auth-provider"):
        if user.get(unsupported):
            raise _unsupported(unsupported, name, path)
    return Identity(
        _data(user, "client-certificate", path),
        _data(user, "client-key", path),
        user.get("token") or "",
        user.get("tokenFile") or "",
        user.get("username") or "",
        user.get("password") or "",
    )


def _unsupported(what: str, user: str, path: str | Path) -> KubeconfigError:
    return KubeconfigError(
        f"user {user!r} of kubeconfig {path} uses {what!r}, which is not supported; "
        "use a client certificate or a token"
    )


def _entry(config: dict[str, Any], kind: str, name: str, path: str | Path) -> dict[str, Any]:
    for entry in config.get(kind) or []:
        if entry["name"] == name:
            return dict(entry.get(_ENTRY[kind]) or {})
    known = ", ".join(sorted(entry["name"] for entry in config.get(kind) or [])) or "none"
    raise KubeconfigError(f"kubeconfig {path} has no {_ENTRY[kind]} {name!r}; it has: {known}")


def _data(body: dict[str, Any], field: str, path: str | Path) -> bytes:
    """Inline data wins over the file of the same name."""
    if inline := body.get(f"{field}-data"):
        try:
            return base64.b64decode(inline, validate=True)
        except (binascii.Error, ValueError) as error:
            raise KubeconfigError(f"kubeconfig {path}: {field}-data is not base64") from error
    return _file(body[field], path) if body.get(field) else b""


def _file(name: str, path: str | Path) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise KubeconfigError(
            f"kubeconfig {path} refers to {name}, which cannot be read: {error.strerror}"
        ) from error

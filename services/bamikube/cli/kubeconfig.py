"""Kubeconfig files: which cluster, as whom, in which namespace.

Where they are looked for: ``--kubeconfig``, else every path in ``KUBECONFIG`` (separated by ``:``), else
``~/.kube/config``. Several files count as one: the first that has an entry wins. Changes go to the file the entry
came from, new entries to the first file.

Source: "Organizing Cluster Access Using kubeconfig Files" in the Kubernetes documentation.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bamikube.cli.errors import CliError

Map = dict[str, Any]
SECTIONS = {"clusters": "cluster", "users": "user", "contexts": "context"}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class ConfigFile:
    """One file. ``data`` has lists under clusters, users, contexts; relative paths inside mean its folder."""

    path: Path
    data: Map
    exists: bool

    def entries(self, section: str) -> list[Map]:
        found = self.data.setdefault(section, [])
        return found if isinstance(found, list) else []

    def find(self, section: str, name: str) -> Map | None:
        for entry in self.entries(section):
            if entry.get("name") == name:
                content = entry.setdefault(SECTIONS[section], {}) or {}
                entry[SECTIONS[section]] = content
                return content
        return None

    def save(self) -> None:
        """Write the file, readable for its owner only: it holds keys."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".new")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            yaml.safe_dump(self.data, stream, sort_keys=False)
        partial.replace(self.path)


@dataclass
class KubeConfig:
    """All files together."""

    files: list[ConfigFile] = field(default_factory=list)

    @property
    def current(self) -> str:
        return next((str(f.data["current-context"]) for f in self.files if f.data.get("current-context")), "")

    def find(self, section: str, name: str) -> tuple[ConfigFile, Map] | None:
        for file in self.files:
            content = file.find(section, name)
            if content is not None:
                return file, content
        return None

    def names(self, section: str) -> list[str]:
        return list(dict.fromkeys(str(e.get("name")) for f in self.files for e in f.entries(section)))

    def change(self, section: str, name: str) -> tuple[ConfigFile, Map, bool]:
        """The entry to change, made when missing (the last value says so), and the file to save afterwards."""
        found = self.find(section, name)
        if found:
            return *found, False
        content: Map = {}
        self.files[0].entries(section).append({"name": name, SECTIONS[section]: content})
        return self.files[0], content, True

    def file_of_current(self) -> ConfigFile:
        return next((file for file in self.files if file.data.get("current-context")), self.files[0])

    def merged(self) -> Map:
        """One document, as ``config view`` shows it."""
        result: Map = {"apiVersion": "v1", "kind": "Config", "preferences": {}}
        for section, key in SECTIONS.items():
            listed = [(name, self.find(section, name)) for name in self.names(section)]
            result[section] = [{"name": name, key: found[1]} for name, found in listed if found]
        result["current-context"] = self.current
        return result


def load(explicit: str | None) -> KubeConfig:
    """The configuration. A missing file is an empty one, unless it was named with ``--kubeconfig``."""
    if explicit:
        paths = [Path(explicit)]
    else:
        listed = [part for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
        paths = [Path(part).expanduser() for part in dict.fromkeys(listed)] or [
            Path.home() / ".kube" / "config"
        ]
    return KubeConfig([_read(path) for path in paths])


def _read(path: Path) -> ConfigFile:
    empty: Map = {"apiVersion": "v1", "kind": "Config", "clusters": [], "users": [], "contexts": []}
    try:
        text = path.read_text()
    except FileNotFoundError:
        return ConfigFile(path, empty, False)
    except OSError as error:
        raise CliError(f'error: error loading config file "{path}": {error.strerror}') from None
    try:
        data = yaml.load(text, _LOADER) or empty
    except yaml.YAMLError as error:
        raise CliError(f'error: error loading config file "{path}": {error}') from None
    if not isinstance(data, dict):
        raise CliError(f'error: error loading config file "{path}": it is no kubeconfig')
    for section in SECTIONS:
        if not isinstance(data.get(section), list):
            data[section] = []
    return ConfigFile(path, data, True)


@dataclass(frozen=True)
class Target:
    """Where a command goes, and as whom. Files are paths, ``*_data`` base64 as in the kubeconfig."""

    server: str
    namespace: str = "default"
    ca_file: str = ""
    ca_data: str = ""
    cert_file: str = ""
    cert_data: str = ""
    key_file: str = ""
    key_data: str = ""
    token: str = ""
    username: str = ""
    password: str = ""
    insecure: bool = False
    tls_server_name: str = ""


def target(config: KubeConfig, flags: Any) -> Target:
    """The target after the flags ``--context``, ``--cluster``, ``--user``, ``--server``, ``--token`` and so on."""
    name = flags.context or config.current
    context: Map = {}
    if name:
        found = config.find("contexts", name)
        if found is None:
            raise CliError(f'error: context "{name}" does not exist')
        context = found[1]
    cluster, base = _section(config, "clusters", flags.cluster or context.get("cluster", ""))
    user, user_base = _section(config, "users", flags.user or context.get("user", ""))
    server = flags.server or cluster.get("server") or "http://localhost:8080"
    token = flags.token or user.get("token", "")
    if not token and user.get("tokenFile"):
        token = Path(_path(user_base, user["tokenFile"])).read_text().strip()
    return Target(
        server=server if "://" in server else f"http://{server}",
        namespace=flags.namespace or context.get("namespace") or "default",
        ca_file=flags.certificate_authority or _path(base, cluster.get("certificate-authority", "")),
        ca_data=cluster.get("certificate-authority-data", ""),
        cert_file=flags.client_certificate or _path(user_base, user.get("client-certificate", "")),
        cert_data=user.get("client-certificate-data", ""),
        key_file=flags.client_key or _path(user_base, user.get("client-key", "")),
        key_data=user.get("client-key-data", ""),
        token=token,
        username=user.get("username", ""),
        password=user.get("password", ""),
        insecure=bool(flags.insecure_skip_tls_verify or cluster.get("insecure-skip-tls-verify")),
        tls_server_name=flags.tls_server_name or cluster.get("tls-server-name", ""),
    )


def _section(config: KubeConfig, section: str, name: str) -> tuple[Map, Path]:
    if not name:
        return {}, Path()
    found = config.find(section, name)
    if found is None:
        raise CliError(f'error: {SECTIONS[section]} "{name}" does not exist')
    return found[1], found[0].path.parent


def _path(base: Path, name: str) -> str:
    return str(base / name) if name else ""

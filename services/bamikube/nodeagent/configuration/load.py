"""From the text of a KubeletConfiguration, and of the files that complete it, to the options of the node agent.

The file comes first, then the ``*.conf`` files of ``--config-dir`` by name (maps are merged, lists and values replaced), then
flags (:mod:`bamikube.kit.options`). Unlike the kubelet, which reads on, the node agent refuses a field that there is not
(decision 0014): a limit that is spelt wrong is a node without that limit.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bamikube.nodeagent.configuration.fields import FIXED, HONOURED, UNUSED, unset

JSON = dict[str, Any]
VERSION, KIND = "kubelet.config.k8s.io/v1beta1", "KubeletConfiguration"
_INNER = {path.rpartition(".")[0] for path in (*HONOURED, *FIXED) if "." in path} | {
    "authentication",
    "authorization",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """``values`` by option; ``names``: what the file calls each; ``unused``: what is said of fields without an effect."""

    values: JSON = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()


class _Once(yaml.SafeLoader):
    """YAML whose keys stand once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: a key has to be a text")
            if key.value in seen:
                raise yaml.YAMLError(f'line {key.start_mark.line + 1}: key "{key.value}" already set in map')
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def document(path: Path, where: str) -> Any:
    """What a file holds. Raises ValueError naming it."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Once) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{where}: {' '.join(str(error).split())}") from error


def checked(loaded: Any, where: str) -> JSON:
    """``loaded`` as a KubeletConfiguration. Raises ValueError when it is none."""
    if not isinstance(loaded, dict):
        raise ValueError(f"{where}: expected an object of apiVersion {VERSION}, kind {KIND}")
    version, kind = loaded.get("apiVersion"), loaded.get("kind")
    if (version, kind) != (VERSION, KIND):
        raise ValueError(
            f"{where}: apiVersion {version!r}, kind {kind!r} is not apiVersion {VERSION!r}, kind {KIND!r}"
        )
    return {key: value for key, value in loaded.items() if key not in ("apiVersion", "kind")}


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> JSON:
    """``more`` laid over ``base``: maps are merged, everything else replaced. Pure."""
    found = dict(base)
    for key, value in more.items():
        before = found.get(key)
        found[key] = merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return found


def read(path: str, folder: str) -> Loaded | None:
    """What ``--config`` and ``--config-dir`` say ("" for one that is not given); None when neither is a KubeletConfiguration.

    Raises ValueError that names the file and the field.
    """
    configuration: JSON = {}
    if path:
        where = f"--config {path}"
        loaded = document(Path(path), where)
        if not folder and not (isinstance(loaded, dict) and {"kind", "apiVersion"} & loaded.keys()):
            return None
        configuration = checked(loaded, where)
        options(configuration, where)  # so that a fault is told of the file it stands in
    elif not folder:
        return None
    for name in _drop_ins(folder):
        where = f"--config-dir {name}"
        more = checked(document(name, where), where)
        options(more, where)
        configuration = merged(configuration, more)
    return options(configuration, f"--config {path}")


def _drop_ins(folder: str) -> list[Path]:
    try:
        return sorted(p for p in Path(folder).iterdir() if p.suffix == ".conf") if folder else []
    except OSError as error:
        raise ValueError(f"--config-dir {folder}: {error.strerror}") from error


def options(configuration: Mapping[str, Any], where: str) -> Loaded:
    """Raises ValueError naming the field that there is not, or that is of the wrong form. Pure."""
    values: JSON = {}
    names: dict[str, str] = {}
    unused = []
    for path, value in _leaves(configuration, where):
        if path in HONOURED:
            option, convert = HONOURED[path]
            if unset(path, value):
                continue
            try:
                values[option] = convert(value)
            except ValueError as error:
                raise ValueError(f"{where}: {path}: {error}") from error
            names[option] = path
        elif path in FIXED:
            if not unset(path, value) and value != FIXED[path]:
                unused.append(f"{path}: {value!r} has no effect: here it is always {FIXED[path]!r}")
        elif not unset(path, value) and value != {} and not path.startswith("logging."):
            why = UNUSED[path if path in UNUSED else path.partition(".")[0]]
            unused.append(f"{path} has no effect on this node agent: {why}")
    return Loaded(values, names, tuple(unused))


def _leaves(given: Mapping[str, Any], where: str, above: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in given.items():
        path = f"{above}.{key}" if above else str(key)
        if path in _INNER and (value is None or isinstance(value, dict)):
            yield from _leaves(value or {}, where, path)
        elif path in HONOURED or path in FIXED or path in UNUSED or path.startswith("logging."):
            yield path, value
        else:
            near = difflib.get_close_matches(path, [*HONOURED, *FIXED, *UNUSED], 1)
            hint = f"; do you mean {near[0]}?" if near else ""
            raise ValueError(f'{where}: strict decoding error: unknown field "{path}"{hint}')
